use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Hub;

impl Hub {
    /// Hears what the broker hears, serves the members, and keeps every channel up to date with its log, until `stop`.
    ///
    /// # Panics
    /// If one of its tasks does: a server that no longer serves its members must not go on.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let listening = self.broker.clone().listen(self.clone(), stop.clone());
        let keeping_up =
            async { tokio::join!(self.recover_logs(), self.read_pages(), self.look_up_logs(), self.tidy()) };
        let mut serving = JoinSet::new();
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            let (hub, stop) = (self.clone(), stop.clone());
            serving.spawn(async move { stop.run_until_cancelled(hub.serve_members()).await });
        }
        tokio::join!(listening, stop.run_until_cancelled(keeping_up), all_ended(serving));
    }
}

/// Waits for the end of all tasks, and panics as soon as one of them does.
async fn all_ended<T: 'static>(mut tasks: JoinSet<T>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// A server without one of its tasks would be ready, and yet silent to some of its members.
    #[tokio::test]
    async fn a_task_that_panics_ends_the_others_too() {
        let mut tasks = JoinSet::new();
        tasks.spawn(pending());
        tasks.spawn(async { panic!("as a worker might") });
        let mut whole = JoinSet::new();
        whole.spawn(all_ended::<()>(tasks));
        assert!(whole.join_next().await.expect("a task").expect_err("a panic").is_panic());
    }
}
