use serde::Serialize;

/// Why Redis cannot be used, for operators.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Host and port.
    pub address: String,
    /// The kind of the failure.
    pub cause: Cause,
    /// The failure in the words of Redis or of the system.
    pub error: String,
}

/// The kinds of failures that an operator must tell apart, in the words of `/readyz` and of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The host's name has no address.
    Dns,
    /// Nothing listens at the address.
    Refused,
    /// No answer in time.
    Timeout,
    /// TLS could not be agreed on, or the certificate is not trusted.
    Tls,
    /// Redis wants a password, or another one.
    Password,
    /// The user of Redis lacks a right.
    Acl,
    /// This Redis is a replica, which takes no writes.
    Replica,
    /// Redis is still reading its data, or cannot write it.
    Disk,
    /// Redis is nearly full, or has no memory left.
    Full,
    /// This is a Redis Cluster.
    Cluster,
    /// The connection was closed.
    Closed,
    /// What is published does not reach the subscriber.
    Deaf,
    /// Anything else.
    Other,
}

impl Cause {
    /// What to look at.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Dns => "the host has no address; check the name in ROOMCAST_REDIS_URL",
            Self::Refused => "nothing listens there; is Redis running?",
            Self::Timeout => "no answer; is there a firewall or a network policy, or TLS on one side only?",
            Self::Tls => "check the certificate, SSL_CERT_FILE and whether the URL should begin with rediss://",
            Self::Password => "check ROOMCAST_REDIS_PASSWORD",
            Self::Acl => "give the user of Redis the rights in docs/operations.md",
            Self::Replica => "this is a replica; the address must lead to the primary",
            Self::Disk => "Redis is loading its data or cannot write it; see its log",
            Self::Full => "Redis has too little memory left; raise maxmemory",
            Self::Cluster => "roomcast needs a Redis that is not a cluster",
            Self::Closed => "Redis closed the connection; see its log and maxclients",
            Self::Deaf => "do all servers publish and listen on the same Redis?",
            Self::Other => "see the log of Redis",
        }
    }
}
