//! How to read each kind of value, and what to say about a wrong one: what it is, and how to write it.

use std::{ops::RangeInclusive, time::Duration};

use super::{LogFormat, Rate, Secret};

pub(super) fn optional<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |value| if value.is_empty() { Ok(None) } else { check(value).map(Some) }
}

pub(super) fn or_auto<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |value| if value == "auto" { Ok(None) } else { check(value).map(Some).map_err(|why| why + ", or auto") }
}

pub(super) fn or_off<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |value| if value == "off" { Ok(None) } else { check(value).map(Some).map_err(|why| why + ", or off") }
}

pub(super) fn rate(value: &str) -> Result<Rate, String> {
    let expected = || format!("is {value:?}, but must be two numbers from 1 on, written like 20/s burst 100");
    rate_of(value, number(1..=1_000_000_000)).ok_or_else(expected)
}

pub(super) fn byte_rate(value: &str) -> Result<Rate, String> {
    let expected = || format!("is {value:?}, but must be two sizes, written like 64KiB/s burst 1MiB");
    rate_of(value, bytes(1..=1 << 40)).ok_or_else(expected)
}

fn rate_of(value: &str, check: impl Fn(&str) -> Result<usize, String>) -> Option<Rate> {
    let (per_second, burst) = value.split_once("burst")?;
    let per_second = per_second.trim().strip_suffix("/s")?;
    Some(Rate { per_second: check(per_second.trim()).ok()?, burst: check(burst.trim()).ok()? })
}

pub(super) fn parsed<T: std::str::FromStr>(expected: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |value| value.parse().map_err(|_| format!("is {value:?}, but must be {expected}"))
}

pub(super) fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("is {value:?}, but must be on or off")),
    }
}

pub(super) fn list(value: &str) -> Result<Vec<String>, String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    Ok(items.map(str::to_owned).collect())
}

pub(super) fn claims(value: &str) -> Result<Vec<String>, String> {
    const KNOWN: [&str; 6] = ["exp", "aud", "iss", "nbf", "iat", "jti"];
    if value == "none" {
        return Ok(Vec::new());
    }
    let claims = list(value)?;
    match claims.iter().find(|claim| !KNOWN.contains(&claim.as_str())) {
        Some(unknown) => Err(format!("has {unknown:?}, but must be a list of {}, or none", KNOWN.join(", "))),
        None => Ok(claims),
    }
}

pub(super) fn number(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    move |value| {
        let expected = || format!("is {value:?}, but must be a whole number from {} to {}", range.start(), range.end());
        value.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)
    }
}

pub(super) fn bytes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    move |value| {
        let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
        let scale = match unit.trim() {
            "" | "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = scale.and_then(|scale| digits.parse::<usize>().ok()?.checked_mul(scale));
        size.filter(|size| range.contains(size)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            format!("is {value:?}, but must be {low} to {high} bytes, written like 65536, 64KiB or 1MiB")
        })
    }
}

pub(super) fn duration(low: &'static str, high: &'static str) -> impl Fn(&str) -> Result<Duration, String> {
    move |value| {
        let bound = |text| humantime::parse_duration(text).expect("the bounds are written in this file");
        let expected = || format!("is {value:?}, but must be from {low} to {high}, written like 500ms, 2s or 5m");
        let range = bound(low)..=bound(high);
        humantime::parse_duration(value).ok().filter(|value| range.contains(value)).ok_or_else(expected)
    }
}

pub(super) fn ratio(value: &str) -> Result<f64, String> {
    let expected = || format!("is {value:?}, but must be a number from 0 to 1");
    value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(expected)
}

pub(super) fn origin_server(value: &str) -> Result<String, String> {
    if value.chars().count() > 253 || value.chars().any(char::is_control) {
        return Err("must have at most 253 characters and no control characters".into());
    }
    Ok(value.to_owned())
}

pub(super) fn redis_prefix(value: &str) -> Result<String, String> {
    // A brace would end the hash tag that keeps a room's keys in one slot of a Redis Cluster.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if value.len() > 64 || !value.chars().all(allowed) {
        return Err(format!("is {value:?}, but must be at most 64 letters, digits and -_.:"));
    }
    Ok(value.to_owned())
}

pub(super) fn redis_url(value: &str) -> Result<Secret, String> {
    // The value may hold a password, so it is not shown.
    match value.split_once("://") {
        Some(("redis" | "rediss" | "unix" | "redis+unix", rest)) if !rest.is_empty() => Ok(Secret(value.to_owned())),
        _ => Err("(hidden) must be a URL such as redis://:password@redis:6379/0".into()),
    }
}

/// A URL, whose scheme is then in lower case, or a file.
pub(super) fn jwks(value: &str) -> Result<String, String> {
    let Some((scheme, rest)) = value.split_once("://") else { return Ok(value.to_owned()) };
    let scheme = scheme.to_ascii_lowercase();
    let has_host = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    if !matches!(scheme.as_str(), "http" | "https") || !has_host {
        return Err(format!("is {value:?}, which is no URL of a host; write https://host/path, or the path of a file"));
    }
    Ok(format!("{scheme}://{rest}"))
}

pub(super) fn otlp_endpoint(value: &str) -> Result<String, String> {
    // Somebody may have put a password into it, so it is not shown.
    match value.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() && !rest.contains('@') => Ok(value.trim_end_matches('/').to_owned()),
        _ => Err("(hidden) must be a URL such as http://otel-collector:4318, without a name and a password; \
                  OTEL_EXPORTER_OTLP_HEADERS is for those"
            .into()),
    }
}

pub(super) fn log_filter(value: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let wrong = |why: &dyn std::fmt::Display| {
        format!("is {value:?}, which is not a filter ({why}); write a level such as info, or info,roomcast=debug")
    };
    // The library takes a lone word for the name of a module, and would log nothing else: a misspelt level mutes the server.
    let is_misspelt = |part: &&str| !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str());
    if let Some(part) = value.split(',').find(is_misspelt) {
        return Err(wrong(&format!("{part:?} is not a level: {}", LEVELS.join(", "))));
    }
    value.parse::<tracing_subscriber::EnvFilter>().map(|_| value.to_owned()).map_err(|why| wrong(&why))
}

pub(super) fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("is {value:?}, but must be pretty or json")),
    }
}
