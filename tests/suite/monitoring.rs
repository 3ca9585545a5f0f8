//! The alert rules, the dashboard and the runbook: sound, tried, and about metrics that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;

use crate::support::{Server, left_out};

const RULES: &str = "helm/roomcast/files/alerts.yaml";
const DASHBOARD: &str = "helm/roomcast/files/dashboard.json";
const RUNBOOK: &str = "docs/runbook.md";
const SCENARIOS: [&str; 3] = ["tests/alerts/clients.yaml", "tests/alerts/redis.yaml", "tests/alerts/servers.yaml"];

/// What Prometheus makes itself.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

#[test]
fn promtool_finds_nothing_to_complain_about_in_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES]);
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    promtool(&[&["test", "rules"], &SCENARIOS[..]].concat());
}

fn promtool(arguments: &[&str]) {
    let Ok(output) = Command::new("promtool").args(arguments).output() else {
        return left_out("promtool", "prometheus");
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn each_alert_has_a_scenario_in_which_it_fires_and_one_in_which_it_does_not() {
    let mut fires: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for path in SCENARIOS {
        let text = fs::read_to_string(path).unwrap();
        for case in text.split("alertname: ").skip(1) {
            let name = case.split([',', '\n']).next().expect("a name");
            let expected = case.split_once("exp_alerts:").expect("what is expected").1;
            fires.entry(name.to_owned()).or_default().insert(!expected.trim_start().starts_with("[]"));
        }
    }
    for alert in alerts() {
        let tried = fires.remove(&alert.name).unwrap_or_default();
        assert_eq!(tried, BTreeSet::from([false, true]), "scenarios for {}", alert.name);
    }
    assert!(fires.is_empty(), "scenarios for alerts that there are not: {fires:?}");
}

#[test]
fn each_alert_says_what_it_is_and_has_its_place_in_the_runbook() {
    let runbook = fs::read_to_string(RUNBOOK).unwrap();
    let mut headings: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).filter(|title| title.starts_with("Room")).collect();
    for Rule { name, fields, .. } in alerts() {
        let field = |key: &str| fields.get(key).unwrap_or_else(|| panic!("{name} has no {key}"));
        assert!(["critical", "warning", "info"].contains(&field("severity").as_str()), "{name}");
        assert!(!field("summary").contains("{{"), "{name}: a summary is the same for each of a group");
        assert!(field("description").ends_with('.'), "{name}");
        let (page, anchor) = field("runbook_url").split_once('#').expect("an anchor");
        assert!(page.starts_with("https://") && page.ends_with(RUNBOOK), "{name}: {page}");
        assert_eq!(anchor, name.to_lowercase(), "{name}");
        assert!(headings.remove(name.as_str()), "{RUNBOOK} has no heading {name}");
    }
    assert!(headings.is_empty(), "{RUNBOOK} has headings for alerts that there are not: {headings:?}");
}

/// The page for operators lists them all, each with its severity and the way to the runbook.
#[test]
fn each_alert_is_in_the_table_for_operators() {
    let page = fs::read_to_string("docs/operations.md").unwrap();
    let rows: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with("| [Roomcast"))
        .map(|line| line.split('|').take(3).map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    let expected: BTreeSet<String> = alerts()
        .map(|Rule { name, fields, .. }| {
            format!(" [{name}](runbook.md#{}) {}", name.to_lowercase(), fields["severity"])
        })
        .collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn rules_and_dashboard_ask_for_nothing_that_is_not_exported() {
    // That there is no Redis does not matter: it says what it is all the same.
    let server = Server::start(&[("ROOMCAST_REDIS_URL", "redis://127.0.0.1:1/0")]);
    let (_, text) = server.get("/metrics").await;
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    known.extend(text.lines().filter_map(|line| line.split([' ', '{']).next()));
    let recorded: Vec<Rule> = rules().into_iter().filter(|rule| !rule.is_alert).collect();
    assert!(!recorded.is_empty());

    let mut asked = 0;
    let mut check = |place: &str, expression: &str, recorded: &[Rule]| {
        let Query { metrics, labels } = read(expression);
        assert!(!metrics.is_empty(), "{place}: no metric in {expression}");
        for metric in metrics {
            let is_known = known.contains(metric.as_str()) || recorded.iter().any(|rule| rule.name == metric);
            assert!(is_known, "{place} asks for {metric}");
            asked += 1;
        }
        for (label, value) in labels.iter().filter(|(label, _)| !["job", "namespace"].contains(&label.as_str())) {
            let is_own = ["alertname", "alertstate"].contains(&label.as_str());
            assert!(is_own || text.contains(&format!(r#"{label}="{value}""#)), "{place} asks for {label}={value}");
        }
    };
    for rule in rules() {
        check(&rule.name, &rule.expression, &recorded);
    }
    // It is to work where the rules are not loaded.
    for (place, expression) in expressions(&dashboard()) {
        check(&place, &expression, &[]);
    }
    assert!(asked > 50, "{asked}");
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(variables, ["datasource", "namespace", "job"]);
    let (mut ids, mut titles, mut rows) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of {title} is taken");
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(titles.insert((rows.last().copied(), title)), "two panels {title}");
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for datasource in targets.iter().chain([panel]).map(|holder| &holder["datasource"]["uid"]) {
            assert_eq!(datasource, "${datasource}", "{title}");
        }
    }
    let expected =
        ["Health", "Clients", "Messages", "Delivery", "Redis and subscriber", "Disconnects and errors", "Process"];
    assert_eq!(rows, expected);
}

fn dashboard() -> Value {
    serde_json::from_slice(&fs::read(DASHBOARD).unwrap()).expect("JSON")
}

/// All that the dashboard asks Prometheus, each with the title of what asks.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (&panel["title"], &target["expr"]))
    });
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    let annotations = annotations.filter(|annotation| annotation["builtIn"] != 1);
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables = variables.filter(|variable| variable["type"] == "query");
    targets
        .chain(annotations.map(|annotation| (&annotation["name"], &annotation["expr"])))
        .chain(variables.map(|variable| (&variable["name"], &variable["query"]["query"])))
        .map(|(title, text)| (title.as_str().unwrap().to_owned(), text.as_str().unwrap().to_owned()))
        .collect()
}

#[derive(Debug)]
struct Rule {
    is_alert: bool,
    name: String,
    expression: String,
    /// Labels and annotations.
    fields: BTreeMap<String, String>,
}

fn alerts() -> impl Iterator<Item = Rule> {
    rules().into_iter().filter(|rule| rule.is_alert)
}

/// The rules in our file. It keeps to the few forms of YAML that are read here; on any other this fails.
fn rules() -> Vec<Rule> {
    let text = fs::read_to_string(RULES).unwrap();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut rules: Vec<Rule> = Vec::new();
    let mut lines = text.lines().skip_while(|line| line.trim() != "rules:").skip(1).peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("not understood: {line}"));
        let mut value = value.trim().to_owned();
        if ["|", ">-"].contains(&value.as_str()) {
            let inner = std::iter::from_fn(|| lines.next_if(|next| indent(next) > indent(line)));
            value = inner.map(str::trim).collect::<Vec<_>>().join(" ");
        }
        let value = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(&value).to_owned();
        if let Some(kind) = key.trim().strip_prefix("- ") {
            let is_alert = kind == "alert";
            assert!(is_alert || kind == "record", "{line}");
            rules.push(Rule { is_alert, name: value, expression: String::new(), fields: BTreeMap::new() });
            continue;
        }
        let rule = rules.last_mut().expect("a rule has begun");
        match key.trim() {
            "expr" => rule.expression = value,
            "for" | "labels" | "annotations" => {}
            "severity" | "summary" | "description" | "runbook_url" => {
                rule.fields.insert(key.trim().to_owned(), value);
            }
            _ => panic!("not understood: {line}"),
        }
    }
    assert!(rules.len() > 10);
    rules
}

/// What an expression of PromQL asks for.
#[derive(Debug, Default, PartialEq)]
struct Query {
    metrics: BTreeSet<String>,
    /// Labels with the values that they are matched with.
    labels: BTreeSet<(String, String)>,
}

/// Reads names and matchers. No whole parser: what is in brackets, what is a function or an aggregation, a
/// keyword or a list of labels is no metric, and every other name is one.
fn read(expression: &str) -> Query {
    const KEYWORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];
    const LISTS: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];
    let calls = |rest: &str| ["(", "by (", "without ("].iter().any(|opening| rest.starts_with(opening));
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut query = Query::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '{' {
            let (matchers, after) = rest[1..].split_once('}').expect("an end of the matchers");
            for matcher in matchers.split(", ") {
                let (label, values) = matcher.split_once(['=', '!']).expect("a matcher");
                let values = values.trim_start_matches(['=', '~']).trim_matches('"');
                query.labels.extend(values.split('|').map(|value| (label.to_owned(), value.to_owned())));
            }
            rest = after;
        } else if first == '[' {
            rest = rest.split_once(']').expect("an end of the range").1;
        } else if is_name(first) {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if LISTS.contains(&word) {
                rest = rest.split_once(')').expect("a list of labels").1;
            } else if word == "label_values" {
                // Grafana's own: the label comes second.
                rest = rest.rsplit_once(',').expect("two arguments").0;
            } else if !first.is_ascii_digit() && !calls(rest) && !KEYWORDS.contains(&word) {
                query.metrics.insert(word.to_owned());
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    query
}

#[test]
fn names_and_matchers_are_read_from_expressions() {
    let query = |metrics: &[&str], labels: &[(&str, &str)]| Query {
        metrics: metrics.iter().map(|&name| name.to_owned()).collect(),
        labels: labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned())).collect(),
    };
    let rate = r#"sum by (job, le) (rate(a_total{code="x", why!~"y|z"}[5m] offset 10m)) > 0.5"#;
    assert_eq!(read(rate), query(&["a_total"], &[("code", "x"), ("why", "y"), ("why", "z")]));
    let join = "a:b:c5m and on (job) group_left () (0 * max_over_time(up[1d]) or 1e3 * d)";
    assert_eq!(read(join), query(&["a:b:c5m", "d", "up"], &[]));
    assert_eq!(read("label_values(m, job)"), query(&["m"], &[]));
}
