/// Which web pages may connect, by the `Origin` that browsers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sites(Vec<Site>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Site {
    /// Every page.
    Any,
    /// Pages of the server's own host.
    Own,
    /// Pages with this origin.
    Exact(String),
    /// Pages of all hosts below this one: the scheme with `://`, and a dot with the rest.
    Below(String, String),
}

impl Sites {
    /// Reads items such as `https://app.example.com`, `https://*.example.com`, `http://localhost:5173`, `own` and `*`.
    ///
    /// # Errors
    /// The first item that is none of these.
    pub fn parse(items: &[String]) -> Result<Self, &str> {
        items.iter().map(|item| Site::parse(item).ok_or(item.as_str())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a page of this origin may connect to the host that it asked for.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.0.iter().any(|site| match site {
            Site::Any => true,
            Site::Own => {
                host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host)))
            }
            Site::Exact(allowed) => origin == *allowed,
            Site::Below(scheme, rest) => origin
                .strip_prefix(scheme.as_str())
                .and_then(|host| host.strip_suffix(rest.as_str()))
                .is_some_and(|label| !label.is_empty() && !label.contains(['/', '@', ':'])),
        })
    }
}

impl Site {
    fn parse(item: &str) -> Option<Self> {
        match item {
            "*" => return Some(Self::Any),
            "own" => return Some(Self::Own),
            _ => {}
        }
        let item = item.to_ascii_lowercase();
        let (scheme, host) = item.split_once("://")?;
        let is_host =
            |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b));
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        match host.strip_prefix("*.") {
            Some(rest) if is_scheme && is_host(rest) => Some(Self::Below(format!("{scheme}://"), format!(".{rest}"))),
            None if is_scheme && is_host(host) => Some(Self::Exact(item.clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(sites: &[&str], origin: &str) -> bool {
        let items: Vec<String> = sites.iter().map(|&item| item.to_owned()).collect();
        Sites::parse(&items).unwrap().allow(origin, Some("chat.example.com"))
    }

    #[test]
    fn pages_of_the_listed_sites_may_connect_and_no_others() {
        let list = ["https://app.example.com", "https://*.example.org", "http://localhost:5173"];
        for origin in [
            "https://app.example.com",
            "HTTPS://App.Example.com",
            "https://a.example.org",
            "https://a.b.example.org",
            "http://localhost:5173",
        ] {
            assert!(allow(&list, origin), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.com",
            "https://example.org",
            "https://evilexample.org",
            "https://evil.com/.example.org",
            "https://evil.com:1@a.example.org",
            "https://.example.org",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!allow(&list, origin), "{origin}");
        }
        assert!(allow(&["*"], "null"));
        assert!(allow(&["own"], "https://chat.example.com") && !allow(&["own"], "https://app.example.com"));
    }

    #[test]
    fn what_is_no_site_is_named() {
        for wrong in ["app.example.com", "https://", "https://*", "https://a.*.com", "https://a.com/", "https://a b"] {
            assert_eq!(Sites::parse(&["*".into(), wrong.into()]), Err(wrong));
        }
    }
}
