use std::time::Duration;

use tokio::time::sleep;

use super::{
    account::{Account, longest_silence},
    arguments::Tempo,
    screen::{Screen, Style},
    stage::Stage,
};
use crate::{Result, wait::until};

/// Longest time until everybody has everything. A client whose connections break repeatedly waits up to half a minute
/// before it reconnects.
const CONVERGED: Duration = Duration::from_secs(60);

/// How many mistakes to explain; more of the same do not help.
const EXPLAINED: usize = 6;

/// What can be done to the stage.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is described where it is done")]
pub enum Act {
    KillServer,
    RestartRedis,
    RollServers,
}

/// The demo as it goes on: what it breaks, and what followed.
#[derive(Debug)]
pub struct Show<'a> {
    stage: &'a mut Stage,
    screen: Screen,
    tempo: Tempo,
    /// The counts of all breaks that have a verdict.
    account: Account,
    acts: usize,
    /// Whether something was broken and is not judged yet.
    is_open: bool,
    silence: Duration,
}

impl<'a> Show<'a> {
    /// Nothing has been broken yet.
    pub fn new(stage: &'a mut Stage, screen: Screen, tempo: Tempo) -> Self {
        Self { stage, screen, tempo, account: Account::default(), acts: 0, is_open: false, silence: Duration::ZERO }
    }

    /// Breaks something and mends it. Says before what it does, and afterwards what followed, here and in the room.
    pub async fn perform(&mut self, act: Act) -> Result<()> {
        let from = self.stage.swarm.recorder.now();
        self.is_open = true;
        let done = match act {
            Act::KillServer => self.kill_server().await?,
            Act::RestartRedis => self.restart_redis().await?,
            Act::RollServers => self.roll_servers().await?,
        };
        sleep(self.tempo.after).await;
        self.judge(&done, from).await
    }

    async fn announce(&mut self, text: &str) -> Result<()> {
        self.screen.say(&format!("\n  {}", self.screen.paint(Style::Bold, text)));
        self.stage.announce(text).await
    }

    async fn kill_server(&mut self) -> Result<String> {
        let clients = self.stage.cluster.clients().await;
        // The one whose end hurts most.
        let victim = (0..clients.len()).max_by_key(|number| clients[*number]).ok_or("there is no server")?;
        let name = self.stage.cluster.name(victim).to_owned();
        let all = connections(clients.iter().sum(), self.stage.swarm.len());
        self.announce(&format!("Killing {name} (SIGKILL), which has {} of {all}.", clients[victim])).await?;
        self.stage.cluster.kill_server(victim).await?;
        sleep(self.tempo.down).await;
        self.stage.cluster.start_server(victim).await?;
        Ok(format!("{name} was killed, and is back"))
    }

    async fn restart_redis(&mut self) -> Result<String> {
        self.announce("Killing Redis (SIGKILL), and starting it again from its append-only file.").await?;
        let redis = self.stage.cluster.redis()?;
        redis.kill().await?;
        sleep(self.tempo.down / 2).await;
        redis.start_again().await?;
        Ok("Redis was killed, and is back".to_owned())
    }

    async fn roll_servers(&mut self) -> Result<String> {
        self.announce("Restarting all servers, one after another (SIGTERM).").await?;
        for number in 0..self.stage.cluster.servers() {
            self.stage.cluster.terminate_server(number).await?;
            self.stage.cluster.start_server(number).await?;
            sleep(self.tempo.down / 4).await;
        }
        Ok("All servers were restarted".to_owned())
    }

    /// Has everybody pause, so that all can get everything, and judges what they saw.
    async fn judge(&mut self, done: &str, from: Duration) -> Result<()> {
        let (swarm, screen) = (&self.stage.swarm, self.screen);
        let to = swarm.recorder.now();
        swarm.send(false);
        let mut record = None;
        let have_everything = async || {
            record = swarm.recorder.converged();
            record.is_some()
        };
        // If they never have, the judge says who lacks what.
        let _ = until("all have everything", CONVERGED, have_everything).await;
        let record = record.unwrap_or_else(|| swarm.recorder.events());
        swarm.send(true);
        let all = Account::of(&record);
        let account = all.since(&self.account);
        let silence = longest_silence(&record, from, to);
        self.is_open = false;
        (self.account, self.acts, self.silence) = (all, self.acts + 1, self.silence.max(silence));

        let (style, numbers) = (if account.is_clean() { Style::Good } else { Style::Bad }, account.numbers());
        let over = format!("{} messages to {} members", account.messages, swarm.len());
        let seconds = silence.as_secs_f64();
        screen.say(&format!(
            "  {done}. {}\n  {}",
            screen.paint(style, &format!("{}.", sentence(&numbers))),
            screen.paint(Style::Dim, &format!("{over}; the longest silence of any member was {seconds:.1} s")),
        ));
        for wrong in account.wrong.iter().take(EXPLAINED) {
            screen.say(&format!("    {wrong}"));
        }
        if account.wrong.len() > EXPLAINED {
            screen.say(&format!("    and {} more", account.wrong.len() - EXPLAINED));
        }
        let told = format!("{done}: {numbers}, over {over}. The longest silence of any member was {seconds:.1} s.");
        self.stage.announce(&told).await
    }

    /// Reports the result. Returns whether nothing was wrong, and which acts were judged.
    pub fn sum_up(&self) -> (bool, usize) {
        if self.acts > 0 {
            let Account { messages, .. } = self.account;
            let (members, seconds) = (self.stage.swarm.len(), self.silence.as_secs_f64());
            let numbers = self.account.numbers();
            let style = if self.account.is_clean() { Style::Good } else { Style::Bad };
            self.screen.say(&format!(
                "\n  In all: {}, over {messages} messages to {members} members. Longest silence: {seconds:.1} s.",
                self.screen.paint(style, &numbers),
            ));
        }
        if self.is_open {
            self.screen.say("  It ended before it could judge what the last break did.");
        }
        (self.account.is_clean(), self.acts)
    }
}

/// How many connections there are, and whose, as those who come to watch are no members that are judged.
fn connections(all: usize, members: usize) -> String {
    match all.saturating_sub(members) {
        0 => format!("{all} connections"),
        1 => format!("{all} connections ({members} members and a guest)"),
        guests => format!("{all} connections ({members} members and {guests} guests)"),
    }
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn connections_of_guests_are_told_from_those_of_members() {
        assert_eq!(connections(7, 7), "7 connections");
        // Somebody may be on the way back.
        assert_eq!(connections(6, 7), "6 connections");
        assert_eq!(connections(8, 7), "8 connections (7 members and a guest)");
        assert_eq!(connections(9, 7), "9 connections (7 members and 2 guests)");
    }
}
