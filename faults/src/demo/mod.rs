//! `make demo`: people talk in a room while the demo breaks servers and Redis, and judges what they saw.

mod account;
mod arguments;
mod cast;
mod keys;
mod screen;
mod show;
mod stage;

use std::{
    cell::Cell,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, sleep},
};

use self::{
    arguments::{Arguments, HELP, Tempo},
    cast::PEOPLE,
    keys::Keys,
    screen::{Screen, Style},
    show::{Act, Show},
    stage::Stage,
};
use crate::{Result, recorder::Recorder};

/// How long to show that a key came too early.
const HINT: Duration = Duration::from_secs(2);

/// Longer than anybody watches. All that is recorded of it stays in memory.
const LONGEST: Duration = Duration::from_secs(3600);

const KEYS: &str =
    "k  kill a server     r  restart Redis     u  restart all servers, one by one     q  quit     ?  help";

const MORE: &str = "
  k  ends the server with the most connections as a crash would (SIGKILL), and starts it again.
  r  does the same to Redis, which has an append-only file.
  u  does what an update does: it ends one server after another with SIGTERM, and starts it again.
  After each, everybody is quiet for a moment; then is counted what each member was sent: what never came (lost), what
  came twice (doubled), what came in another order than to others (misordered). The longest silence is the longest time
  in which a member who should have heard something heard nothing; people here pause for a second or so by themselves.
  Join them: what you say on the page is counted too.";

/// Runs the demo with these arguments. Returns whether nothing was lost, doubled or misordered.
pub async fn run(arguments: impl IntoIterator<Item = String>) -> Result<bool> {
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    let arguments = Arguments::parse(arguments, variable)?;
    if arguments.help {
        print!("{HELP}");
        return Ok(true);
    }
    arguments.ports.check()?;
    let program = arguments.program()?;
    let directory = tempfile::Builder::new().prefix("roomcast-demo-").tempdir()?;
    match play(&arguments, &program, directory.path()).await {
        Ok(Some(true)) => Ok(true),
        Ok(None) => Err("ended before everything had been broken".into()),
        played => {
            eprintln!("The logs are in {}", directory.keep().display());
            played.map(|_| false)
        }
    }
}

/// Returns whether nothing was wrong; `None` if it ended too early to say.
async fn play(arguments: &Arguments, program: &Path, directory: &Path) -> Result<Option<bool>> {
    let (tempo, screen, hurry) = (arguments.tempo(), Screen::new(), Hurry::default());
    let (mut end, mut keys) = (End::new()?, Keys::listen(!arguments.once));
    let by_keys = keys.is_open();
    screen.live("starting Redis, three servers and nginx ...");
    let mut stage = tokio::select! {
        stage = Stage::start(arguments, program, directory, tempo) => stage?,
        () = end.asked() => return Ok(None),
        () = keys.quit() => return Ok(None),
    };
    screen.say(&introduction(screen, arguments, directory));
    if by_keys {
        screen.say(&format!("\n  {KEYS}"));
    }

    let recorder = stage.swarm.recorder.clone();
    let mut show = Show::new(&mut stage, screen, tempo);
    let (quit, story) = (keys.quit(), async {
        if by_keys { on_keys(screen, &mut show, &mut keys, &hurry).await } else { on_timer(&mut show, tempo).await }
    });
    let result = tokio::select! {
        result = story => result,
        () = end.asked() => Ok(()),
        () = quit => Ok(()),
        () = count(screen, &recorder, &hurry) => Ok(()),
    };
    drop((recorder, keys));
    let (is_clean, acts) = show.sum_up();
    screen.live("stopping ...");
    stage.stop().await?;
    screen.live("");
    result?;
    Ok((by_keys || acts == ACTS.len()).then_some(is_clean))
}

fn introduction(screen: Screen, arguments: &Arguments, directory: &Path) -> String {
    let ports = &arguments.ports;
    let url = screen.paint(Style::Bold, &format!("http://127.0.0.1:{}/?room=demo", ports.nginx()));
    let [one, two, three] = ports.servers();
    let people = PEOPLE.len();
    format!(
        "{url}\n\n  {people} people talk in the room \"demo\", through nginx, which leads each of them to one of three \
         servers. Open the\n  page and join them; the member named \"demo\" says there what happens.\n\n  servers on \
         ports {one}, {two} and {three}, Redis on {}; logs in {}",
        ports.redis(),
        directory.display()
    )
}

const ACTS: [Act; 3] = [Act::KillServer, Act::RestartRedis, Act::RollServers];

async fn on_timer(show: &mut Show<'_>, tempo: Tempo) -> Result<()> {
    for act in ACTS {
        sleep(tempo.peace).await;
        show.perform(act).await?;
    }
    Ok(())
}

async fn on_keys(screen: Screen, show: &mut Show<'_>, keys: &mut Keys, hurry: &Hurry) -> Result<()> {
    let over = sleep(LONGEST);
    tokio::pin!(over);
    loop {
        let key = tokio::select! {
            key = keys.next() => key,
            () = &mut over => None,
        };
        let Some(key) = key else { return Ok(()) };
        let Some(act) = meant(key) else {
            help(screen, key);
            continue;
        };
        let mut done = pin!(show.perform(act));
        loop {
            tokio::select! {
                biased;
                Some(key) = keys.next() => match meant(key) {
                    // An impatient person must not break things over and over.
                    Some(_) => hurry.note(),
                    None => help(screen, key),
                },
                result = &mut done => break result?,
            }
        }
    }
}

/// What a key breaks.
fn meant(key: u8) -> Option<Act> {
    match key {
        b'k' => Some(Act::KillServer),
        b'r' => Some(Act::RestartRedis),
        b'u' => Some(Act::RollServers),
        _ => None,
    }
}

fn help(screen: Screen, key: u8) {
    if matches!(key, b'?' | b'h') {
        screen.say(&format!("\n  {KEYS}\n{MORE}"));
    }
}

/// When a key was last pressed that came too early.
#[derive(Debug, Default)]
struct Hurry(Cell<Option<Instant>>);

impl Hurry {
    fn note(&self) {
        self.0.set(Some(Instant::now()));
    }

    fn is_fresh(&self) -> bool {
        self.0.get().is_some_and(|at| at.elapsed() < HINT)
    }
}

/// Shows that they talk, for as long as it is asked to.
async fn count(screen: Screen, recorder: &Recorder, hurry: &Hurry) {
    let mut often = interval(Duration::from_millis(250));
    loop {
        often.tick().await;
        let (messages, live) = recorder.so_far();
        let hint = if hurry.is_fresh() { "; one thing at a time" } else { "" };
        screen.live(&format!("  {messages} messages, {live} of {} members connected{hint}", PEOPLE.len() + 1));
    }
}

/// The signals that ask for the end.
struct End([Signal; 3]);

impl End {
    fn new() -> Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn asked(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
