use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::{command, eventually, send_signal};

/// A program in a terminal of its own, and what a person would see there.
pub struct Screen {
    child: Child,
    keyboard: File,
    terminal: File,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    emulator: vt100::Parser,
    bytes: Vec<u8>,
}

impl Screen {
    /// Starts the program with these settings and arguments, on a screen of 24 rows and 80 columns.
    pub fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&keyboard).expect("it is ours");
        unlockpt(&keyboard).expect("it can be opened");
        let name = ptsname(&keyboard, Vec::new()).expect("its name");
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        let terminal = OpenOptions::new().read(true).write(true).open(path).expect("the other side");
        let program = command(settings);
        // It has to own the terminal to be told of a new size.
        let mut shell = Command::new("setsid");
        shell.arg("--ctty").arg(program.get_program()).args(arguments).env("TERM", "xterm");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let end = || terminal.try_clone().expect("one more");
        let child = shell.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid, of util-linux");
        let keyboard = File::from(keyboard);
        let seen = Arc::new(Mutex::new(Seen { emulator: vt100::Parser::new(24, 80, 1000), bytes: Vec::new() }));
        std::thread::spawn({
            let (seen, mut output) = (seen.clone(), keyboard.try_clone().expect("one more"));
            move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = output.read(&mut buffer) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.emulator.process(&buffer[..length]);
                    seen.bytes.extend(&buffer[..length]);
                }
            }
        });
        let screen = Self { child, keyboard, terminal, seen };
        screen.resize(24, 80);
        screen
    }

    /// Presses these keys.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("an open terminal");
    }

    /// Gives the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.seen.lock().unwrap().emulator.screen_mut().set_size(rows, columns);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keyboard, size).expect("a terminal");
    }

    /// The rows that something stands on, top to bottom.
    pub fn rows(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let mut rows: Vec<String> = seen.emulator.screen().contents().lines().map(str::to_owned).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    /// Everything that the program has written.
    pub fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap().bytes).into_owned()
    }

    /// Waits until some row has this in it.
    pub async fn shows(&self, text: &str) {
        let what = format!("{text:?} on the screen");
        eventually(&what, async || self.rows().iter().any(|row| row.contains(text)).then_some(())).await;
    }

    /// Waits until the last row is this.
    pub async fn ends_with(&self, row: &str) {
        let what = format!("{row:?} at the bottom");
        eventually(&what, async || self.rows().last().is_some_and(|last| last.trim_end() == row).then_some(())).await;
    }

    /// How many rows have this in them.
    pub fn count(&self, text: &str) -> usize {
        self.rows().iter().filter(|row| row.contains(text)).count()
    }

    /// Whether the terminal shows what is typed, as it did before the program took it.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.terminal).expect("a terminal").local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    pub fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the program ends", async || child.try_wait().expect("a child")).await
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the screen:\n{}", self.rows().join("\n"));
        }
    }
}
