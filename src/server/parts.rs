use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

/// The tasks that a server cannot do without. Each runs until it is told to stop. It is a fault if one ends earlier, or
/// panics at any time.
#[derive(Debug, Default)]
pub(super) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A part of the server ended before it was told to. The rest of the server cannot do its job.
#[derive(Debug, thiserror::Error)]
#[error("the {name} task ended by itself ({how})")]
pub struct Broken {
    name: &'static str,
    how: String,
}

impl Parts {
    pub(super) fn start(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(part).id();
        self.names.insert(id, name);
    }

    /// Waits until a part ends before it was told to.
    pub(super) async fn broken(&mut self) -> Broken {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => Broken { name: self.name(id), how: "without an error".to_owned() },
            Some(Err(error)) => self.failed(&error),
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all parts, which have been told to stop.
    ///
    /// # Errors
    /// If one of them failed.
    pub(super) async fn ended(&mut self) -> Result<(), Broken> {
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(ended.map_err(|error| self.failed(&error)));
        }
        result
    }

    fn failed(&self, error: &JoinError) -> Broken {
        Broken { name: self.name(error.id()), how: error.to_string() }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unknown")
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_ends_is_named_and_others_do_not_hide_it() {
        let mut parts = Parts::default();
        parts.start("sound", std::future::pending());
        parts.start("hub", async { panic!("for the test") });
        let text = parts.broken().await.to_string();
        assert!(text.contains("hub") && text.contains("for the test"), "{text}");
        parts.start("http", async {});
        assert!(parts.broken().await.to_string().contains("http"));
    }

    #[tokio::test]
    async fn a_part_that_panics_while_it_ends_is_named_too() {
        let (stop, mut parts) = (CancellationToken::new(), Parts::default());
        let (stopped, also_stopped) = (stop.clone(), stop.clone());
        parts.start("http", async move { stopped.cancelled().await });
        parts.start("hub", async move {
            also_stopped.cancelled().await;
            panic!("for the test");
        });
        stop.cancel();
        assert!(parts.ended().await.unwrap_err().to_string().contains("hub"));
        assert!(parts.ended().await.is_ok(), "there are none left");
    }
}
