use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::World;
use crate::{
    Result,
    client::{Plan, Voice, frame::room_name},
    record::Room,
    wait::until,
};

const OVERTAKE: Duration = Duration::from_secs(20);

impl World {
    pub(super) async fn kill_redis(&mut self) -> Result<Duration> {
        self.cluster.redis()?.kill().await?;
        sleep(self.lasts(3.0, 1.0)).await;
        self.cluster.redis()?.start_again().await?;
        Ok(self.now())
    }

    pub(super) async fn freeze_redis(&mut self) -> Result<Duration> {
        self.cluster.redis()?.freeze().await?;
        sleep(self.lasts(10.0, 3.0)).await;
        self.cluster.redis()?.thaw().await?;
        Ok(self.now())
    }

    pub(super) async fn flush_all(&mut self) -> Result<Duration> {
        self.send_some_away(self.lasts(2.0, 1.0))?;
        sleep(self.lasts(1.5, 0.7)).await;
        self.cluster.redis()?.ask::<String>(&["FLUSHALL"]).await?;
        Ok(self.now())
    }

    pub(super) async fn failover(&mut self) -> Result<Duration> {
        self.cluster.cut_replication()?;
        // These miss what will be lost, and come back when it is.
        self.send_some_away(self.lasts(4.0, 1.5))?;
        sleep(self.lasts(2.0, 1.0)).await;
        self.cluster.promote().await?;
        // Until Sentinel or an operator's hand leads servers to the new primary, there is none for them.
        sleep(self.lasts(2.0, 0.5)).await;
        self.cluster.lead_to_redis(0..self.cluster.servers())?;
        Ok(self.now())
    }

    pub(super) async fn failover_overtaken(&mut self) -> Result<Duration> {
        let old_servers = 0..self.cluster.servers();
        self.cluster.cut_replication()?;
        // These miss what will be lost, and come back when it is.
        self.send_some_away(self.lasts(4.0, 1.5))?;
        sleep(self.lasts(2.0, 1.0)).await;
        self.cluster.promote().await?;
        let tops: BTreeMap<Room, u64> =
            (0..self.load.rooms).filter_map(|room| Some((room, self.swarm.recorder.newest(room)?.seq))).collect();

        // This server knows nothing of what was lost, and its clients write over it.
        let newcomer = self.cluster.add_server().await?;
        for room in 0..self.load.rooms {
            let (pace, voice) = (Some(Duration::from_millis(10)), Voice::Filler(self.load.text));
            self.swarm.add(Plan { rooms: vec![room], pace, voice, server: Some(newcomer), ..Plan::listener() });
        }
        for (room, top) in tops {
            let key = format!("ws:meta:{{ws:room:{}}}", room_name(room));
            let redis = self.cluster.redis()?;
            until(&format!("room {room} is beyond {top} again"), OVERTAKE, async || {
                let seq = redis.ask::<Option<u64>>(&["HGET", &key, "seq"]).await;
                seq.is_ok_and(|seq| seq.is_some_and(|seq| seq > top + 10))
            })
            .await?;
        }
        self.cluster.lead_to_redis(old_servers)?;
        Ok(self.now())
    }
}
