use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;

/// What `private` stands for: addresses that are not of one client on the internet, but of a machine or a proxy of one's
/// own (loopback, RFC 1918, RFC 6598, RFC 4193, link-local).
const PRIVATE: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads items such as `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7` and `private`.
    ///
    /// # Errors
    /// The first item that is none of these.
    pub fn parse(items: &[String]) -> Result<Self, &str> {
        let mut networks = Vec::new();
        for item in items {
            match item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) if item == "private" => {
                    networks.extend(PRIVATE.map(|text| text.parse::<IpNet>().expect("a network")))
                }
                Err(_) => return Err(item),
            }
        }
        Ok(Self(networks))
    }

    /// Whether this address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Where a client comes from, as far as limits go: an IPv4 address, or the first half of an IPv6 address, which is what
/// one household or machine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// A client's address, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether it is that of a proxy that wrote something else than an address of its client.
    pub is_unreadable: bool,
}

/// The client's address, from that of the connection and the lines of `X-Forwarded-For`. A proxy appends there whom it
/// serves. What proxies that are not `trusted` say counts for nothing, as anybody can write the header.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &Networks,
) -> ClientAddress {
    let mut address = peer.to_canonical();
    let mut entries = forwarded.rev().flat_map(|line| line.rsplit(','));
    while trusted.contain(address) {
        let Some(entry) = entries.find(|entry| !entry.trim().is_empty()) else { break };
        match read(entry) {
            Some(next) => address = next,
            None => return ClientAddress { address, is_unreadable: true },
        }
    }
    ClientAddress { address, is_unreadable: false }
}

/// One entry: an address, which some proxies write with a port.
fn read(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|it| it.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        let items: Vec<String> = text.split(' ').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        Networks::parse(&items).unwrap()
    }

    #[test]
    fn what_a_proxy_says_counts_if_it_is_trusted() {
        for (peer, forwarded, trusted, client) in [
            ("192.0.2.1", &["198.51.100.7"][..], "", "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.7"], "private", "198.51.100.7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "10.0.0.0/8", "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "private", "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7"], "private", "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, 10.0.0.2"], "private", "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7", "10.0.0.2 "], "private", "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, 10.0.0.2"], "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", &["unknown, 10.0.0.2"], "private", "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.7, unknown"], "private", "10.0.0.1"),
            ("10.0.0.1", &["\u{fffd}, 198.51.100.7"], "private", "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7:4711"], "private", "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "private", "2001:db8::7"),
            ("10.0.0.1", &["2001:db8::7"], "private", "2001:db8::7"),
            ("10.0.0.1", &[], "private", "10.0.0.1"),
            ("10.0.0.1", &["", " "], "private", "10.0.0.1"),
        ] {
            let found = client_address(peer.parse().unwrap(), forwarded.iter().copied(), &networks(trusted));
            assert_eq!(found.address.to_string(), client, "{peer} {forwarded:?} {trusted}");
            assert_eq!(found.is_unreadable, forwarded.iter().any(|line| line.contains("unknown")), "{forwarded:?}");
        }
    }

    #[test]
    fn half_of_an_ipv6_address_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8:1:2:3::4"), source("2001:db8:1:2:ffff::"));
        assert_ne!(source("2001:db8:1:2::"), source("2001:db8:1:3::"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_eq!(source("2001:db8:1:2:3::4").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn what_is_no_network_is_named() {
        assert_eq!(Networks::parse(&["10.0.0.0/8".into(), "10.0.0.0/33".into()]), Err("10.0.0.0/33"));
        assert!(networks("private").contain("192.168.1.1".parse().unwrap()));
        assert!(!networks("private").contain("192.0.2.1".parse().unwrap()));
        assert!(networks("192.0.2.7").contain("192.0.2.7".parse().unwrap()));
    }
}
