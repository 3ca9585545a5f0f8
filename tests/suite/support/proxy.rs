use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use super::Redis;

/// What a [`Proxy`] does to what goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Passes everything on.
    Sound,
    /// Holds everything back, as a network does that drops packets: nobody is told, and connections stay. What is
    /// held goes on when the network is sound again, as what is retransmitted does.
    Cut,
    /// Throws away what comes for connections that have subscribed, as a server does to which nobody publishes.
    Deaf,
    /// Throws away what comes for the other connections: commands are carried out, and their answers lost.
    Mute,
}

/// The network between a server and its Redis.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A sound network to this Redis.
    pub async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (network, state) = watch::channel(Network::Sound);
        let target = redis.address();
        #[allow(clippy::disallowed_methods, reason = "it ends with the proxy")]
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(carry(near, target, state.clone()));
            }
        });
        Self { address, network, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The URL for `ROOMCAST_REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn carry(near: TcpStream, target: SocketAddr, network: watch::Receiver<Network>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (subscribes, is_subscriber) = watch::channel(false);
    tokio::select! {
        () = copy(near_read, far_write, network.clone(), |bytes| {
            if bytes.windows(9).any(|word| word == b"SUBSCRIBE") {
                subscribes.send_replace(true);
            }
            false
        }) => {}
        () = copy(far_read, near_write, network.clone(), |_| {
            *network.borrow() == if *is_subscriber.borrow() { Network::Deaf } else { Network::Mute }
        }) => {}
    }
}

/// Copies until either side ends; what `lost` says yes to is not passed on.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    lost: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if network.wait_for(|network| *network != Network::Cut).await.is_err() {
            return;
        }
        if !lost(&buffer[..length]) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // An end is a packet too.
    let _ = network.wait_for(|network| *network != Network::Cut).await;
}
