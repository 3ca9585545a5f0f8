use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::net::TcpStream;

use super::process::{Process, leashed};
use crate::{Result, wait::until};

const START: Duration = Duration::from_secs(20);

/// The nginx of docker-compose.yml, which stands in front of its two servers there.
const CONFIG: &str = include_str!("../../../docker/nginx.conf");

/// An nginx in front of some servers.
#[derive(Debug)]
pub struct Nginx(Process);

impl Nginx {
    /// Starts one on this port and waits until it listens. Its files go into `directory`.
    pub async fn start(port: u16, servers: &[SocketAddr], directory: &Path) -> Result<Self> {
        let path = directory.join("nginx.conf");
        std::fs::write(&path, config(port, servers, directory)?)?;
        let mut command = leashed(Path::new("nginx"));
        // One process: if it is killed, no worker is left.
        command.arg("-p").arg(directory).arg("-c").arg(&path).args(["-g", "daemon off; master_process off;"]);
        let log = directory.join("nginx.log");
        let process = Process::start("nginx", command.stdout(Stdio::null()), &log);
        let mut process = process.map_err(|error| format!("{error} (`apt-get install nginx`)"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until("nginx listens", START, async || TcpStream::connect(address).await.is_ok()).await?;
        process.is_running()?;
        Ok(Self(process))
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.0.kill().await
    }
}

/// The configuration of docker-compose.yml with these servers, without the doors that it needs for addresses that change.
/// Clients are known by a cookie: by their address, all of this machine would meet one server.
fn config(port: u16, servers: &[SocketAddr], directory: &Path) -> Result<String> {
    let (before, rest) = CONFIG.split_once("    # Doors").ok_or("docker/nginx.conf has no doors")?;
    let (_, after) = rest.split_once("# End of the doors.\n").ok_or("the doors of docker/nginx.conf have no end")?;
    let mut text = String::new();
    for line in before.lines().chain(after.lines()) {
        match line.trim() {
            "server 127.0.0.1:8001 max_fails=0;" => {
                servers.iter().for_each(|server| text += &format!("server {server} max_fails=0;\n"));
            }
            "server 127.0.0.1:8002 max_fails=0;" => {}
            "listen 8080;" => text += &format!("listen 127.0.0.1:{port};\n"),
            "set $affinity address;" => text += "set $affinity cookie;\n",
            _ => text = text + &line.replace("/tmp/", &format!("{}/", directory.display())) + "\n",
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_compose_is_led_to_these_servers() {
        let servers = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = config(7000, &servers, Path::new("/demo")).unwrap();
        assert_eq!(text.matches("server 127.0.0.1:3 max_fails=0;").count(), 2, "{text}");
        assert!(text.contains("listen 127.0.0.1:7000;") && text.contains("set $affinity cookie;"), "{text}");
        assert!(!text.contains("800") && !text.contains("/tmp/") && !text.contains("resolver"), "{text}");
    }
}
