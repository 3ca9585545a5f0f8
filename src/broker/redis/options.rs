use std::{fmt, time::Duration};

use super::super::Retention;

/// How to use one Redis.
#[derive(Clone)]
pub struct Options {
    /// Its address: `redis://` or `rediss://`, perhaps with a password.
    pub url: String,
    /// Overrides a password in the URL.
    pub password: Option<String>,
    /// What to show to a Redis that asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// First part of the names of all keys and channels.
    pub prefix: String,
    /// Longest time to establish a connection.
    pub connect_timeout: Duration,
    /// Longest time for one command.
    pub command_timeout: Duration,
    /// How long the subscriber may hear nothing before it probes its connection.
    pub probe_interval: Duration,
    /// Share of its `maxmemory`, 0 to 1, at which Redis counts as nearly full.
    pub memory_watermark: f64,
    /// Longest frame of a client, in bytes. The subscriber ignores pushes that are much longer.
    pub max_frame: usize,
    /// How much of each channel to keep.
    pub retention: Retention,
}

/// A certificate and its private key, both in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

impl fmt::Debug for Options {
    /// Shows neither the URL nor the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
