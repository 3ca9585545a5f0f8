use super::{SETTINGS, Setting, Warning};

/// Warns about names that are no settings, and suggests the setting that each may stand for.
pub(super) fn unknown<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Warning> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::name).collect();
    names
        .filter(|name| !known.contains(name) && !is_service_link(name))
        .map(|name| {
            let nearest = known.iter().min_by_key(|candidate| distance(name, candidate));
            let hint = nearest.filter(|candidate| distance(name, candidate) <= 3);
            let hint = hint.map_or(String::new(), |candidate| format!("; did you mean {candidate}?"));
            Warning(format!("{name} is not a setting of roomcast and has no effect{hint}"))
        })
        .collect()
}

/// Kubernetes sets these for each Service of the namespace: `ROOMCAST_PORT=tcp://10.0.0.1:80` for one named
/// `roomcast`, `ROOMCAST_REDIS_SERVICE_HOST` for one named `roomcast-redis`.
pub(super) fn is_service_link(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    match &words[..] {
        [.., "SERVICE", "HOST" | "PORT"] | [.., "PORT"] => true,
        [.., "PORT", port, "TCP" | "UDP"] | [.., "PORT", port, "TCP" | "UDP", "PROTO" | "ADDR"] => is_number(port),
        words => words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]),
    }
}

/// How many letters must be changed, added or left out to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
