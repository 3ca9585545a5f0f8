use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use roomcast_load::Plan;

use crate::{
    Result,
    cluster::{Cluster, Load},
};

/// Longest time until all clients of a load have joined.
const JOINING: Duration = Duration::from_secs(120);

/// Long enough for the work beside it to end earlier.
const LONG: Duration = Duration::from_secs(3600);

/// Does some work during a load, once all its clients have joined. Returns the results of both.
pub fn beside<T>(cluster: &Cluster, plan: Plan, work: impl FnOnce() -> Result<T>) -> Result<(Load, T)> {
    let plan = Plan { warm_up: Duration::ZERO, duration: LONG, ..plan };
    let (stop, (begun, begins)) = (AtomicBool::new(false), mpsc::channel());
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            cluster.load(plan, &stop, &mut |progress| {
                if progress.doing != "connecting" {
                    // Nobody listens after the first time.
                    let _ = begun.send(());
                }
            })
        });
        // A load that fails drops its end; the reason comes below.
        let worked = begins.recv_timeout(JOINING).map(|()| work());
        stop.store(true, Ordering::Relaxed);
        let load = load.join().map_err(|_| "the load beside has panicked")??;
        Ok((load, worked.map_err(|_| format!("the clients of the load beside did not join within {JOINING:?}"))??))
    })
}
