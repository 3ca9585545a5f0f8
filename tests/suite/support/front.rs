use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::task::AbortOnDropHandle;

/// What stands before servers, as an ingress does: one address, which leads to the first of them that answers.
pub struct Front {
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Front {
    pub async fn to(servers: Vec<SocketAddr>) -> Self {
        Self::start(servers, None).await
    }

    /// The same, with TLS before it.
    pub async fn with_tls(servers: Vec<SocketAddr>, config: ServerConfig) -> Self {
        Self::start(servers, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(servers: Vec<SocketAddr>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        #[allow(clippy::disallowed_methods, reason = "it ends with the front")]
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (servers, tls) = (servers.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => carry(near, &servers).await,
                        Some(tls) => {
                            if let Ok(near) = tls.accept(near).await {
                                carry(near, &servers).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn carry(mut near: impl AsyncRead + AsyncWrite + Unpin, servers: &[SocketAddr]) {
    for server in servers {
        if let Ok(mut far) = TcpStream::connect(server).await {
            let _ = copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
