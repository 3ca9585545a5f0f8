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

/// So long that work beside it ends earlier.
const LONG: Duration = Duration::from_secs(3600);

/// Does some work while a load is on, from when all its clients have joined. Returns what came of both.
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
        // A load that fails drops its end, and says why below.
        let worked = begins.recv_timeout(JOINING).map(|()| work());
        stop.store(true, Ordering::Relaxed);
        let load = load.join().map_err(|_| "the load beside has panicked")??;
        Ok((load, worked.map_err(|_| format!("the clients of the load beside did not join within {JOINING:?}"))??))
    })
}
