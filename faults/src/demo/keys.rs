use std::{
    io::{IsTerminal, Read, stdin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// `q`, and what Ctrl-D makes.
const QUIT: [u8; 2] = [b'q', 4];

/// Keys that were pressed and not seen to yet; more are dropped.
const WAITING: usize = 8;

/// The keyboard, key by key, where standard input is a terminal. When this is dropped the terminal is as it was.
#[derive(Debug)]
pub struct Keys {
    pressed: mpsc::Receiver<u8>,
    quit: CancellationToken,
    terminal: Option<Terminal>,
}

#[derive(Debug)]
struct Terminal {
    before: Termios,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Keys {
    /// Begins to listen, if it is wanted and there is a terminal.
    pub fn listen(is_wanted: bool) -> Self {
        let ((sender, pressed), quit) = (mpsc::channel(WAITING), CancellationToken::new());
        let terminal = if is_wanted && stdin().is_terminal() { Terminal::open(sender, quit.clone()) } else { None };
        Self { pressed, quit, terminal }
    }

    /// Whether there is a keyboard.
    pub fn is_open(&self) -> bool {
        self.terminal.is_some()
    }

    /// The next key; `None` when no more can come.
    pub async fn next(&mut self) -> Option<u8> {
        self.pressed.recv().await
    }

    /// Waits for the key that asks for the end, which has its effect whatever goes on.
    pub fn quit(&self) -> WaitForCancellationFutureOwned {
        self.quit.clone().cancelled_owned()
    }
}

impl Terminal {
    fn open(sender: mpsc::Sender<u8>, quit: CancellationToken) -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        // Ctrl-C stays what it is.
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read waits for a tenth of a second, so that the reader sees when it is over.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let reader = std::thread::spawn(move || {
            let mut key = [0];
            while !until.load(Ordering::Relaxed) {
                match stdin().read(&mut key) {
                    Ok(1) if QUIT.contains(&key[0]) => quit.cancel(),
                    Ok(1) => drop(sender.try_send(key[0])),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        Some(Self { before, over, reader: Some(reader) })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
