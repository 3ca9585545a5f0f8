use std::{fs, io, path::PathBuf, time::Duration};

use super::{BadKey, KeySet};

/// Longest answer of a provider of keys, in bytes, and longest file.
const LONGEST: usize = 1 << 20;

/// How long a provider may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A secret in a setting.
    Secret(Hidden),
    /// A file with a secret; blanks around it do not count.
    SecretFile(PathBuf),
    /// A file with public keys in PEM.
    PemFile(PathBuf),
    /// A file with a JSON Web Key Set.
    JwksFile(PathBuf),
    /// A URL of a JSON Web Key Set.
    JwksUrl(String),
}

/// A secret that no log shows.
#[derive(Clone)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why keys could not be had; the text goes on after the name of the setting.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("names a file that cannot be read ({0}); check its name and its rights")]
    File(#[from] io::Error),
    /// The provider does not answer as it should.
    #[error("could not be fetched: {0}")]
    Fetch(String),
    /// What came has no keys.
    #[error(transparent)]
    Keys(#[from] BadKey),
}

impl KeySource {
    /// The setting that names it.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Secret(_) => "ROOMCAST_JWT_SECRET",
            Self::SecretFile(_) => "ROOMCAST_JWT_SECRET_FILE",
            Self::PemFile(_) => "ROOMCAST_JWT_PUBLIC_KEY_FILE",
            Self::JwksFile(_) | Self::JwksUrl(_) => "ROOMCAST_JWKS",
        }
    }

    /// Its keys, if they are on this machine; `None` if they come over the network.
    ///
    /// # Errors
    /// If they cannot be read, or are none.
    pub fn read(&self) -> Result<Option<KeySet>, SourceError> {
        Ok(Some(match self {
            Self::Secret(secret) => KeySet::from_secret(secret.0.as_bytes())?,
            Self::SecretFile(path) => KeySet::from_secret(read(path)?.trim().as_bytes())?,
            Self::PemFile(path) => KeySet::from_pem(&read(path)?)?,
            Self::JwksFile(path) => KeySet::from_jwks(&read(path)?)?,
            Self::JwksUrl(_) => return Ok(None),
        }))
    }

    /// Its keys, wherever they are. Takes 5 s at most. Cancel-safe.
    ///
    /// # Errors
    /// If they cannot be had, or are none.
    pub async fn keys(&self) -> Result<KeySet, SourceError> {
        match self {
            Self::JwksUrl(url) => Ok(KeySet::from_jwks(&fetch(url).await.map_err(told)?)?),
            here => Ok(here.read()?.unwrap_or_default()),
        }
    }
}

/// A file with keys is small, and on a volume of this machine: reading it does not hold a thread up.
fn read(path: &PathBuf) -> io::Result<String> {
    if fs::metadata(path)?.len() > LONGEST as u64 {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    fs::read_to_string(path)
}

async fn fetch(url: &str) -> Result<String, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(PATIENCE).https_only(url.starts_with("https://")).build()?;
    let mut response = client.get(url).header("accept", "application/json").send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            break;
        }
    }
    // Cut or not UTF-8, it is no JSON, which is then said.
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The whole chain of causes: the first says only that the request failed.
fn told(error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    SourceError::Fetch(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
