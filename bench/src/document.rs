//! The page that a run writes, and what it prints.

use std::{fs, path::Path};

use crate::{
    Result,
    results::Results,
    scenario::{SCENARIOS, Scenario},
    subject::{FLOOR, OURS, SUBJECTS, Subject},
    table::{NOTHING, Table, number, ratio},
    targets,
};

/// The mark: a run writes what is above it in the page, and people write what is below.
const MARK: &str = "<!-- `make bench` writes all that is above this line, and leaves all that is below it. -->";

/// The figures that are compared over all subjects.
const COMPARED: &[(&str, &str, &str)] = &[
    ("fanout-60k", "cpu", "CPU per delivery at 60,000/s"),
    ("fanout-60k", "p50", "p50 at 60,000/s"),
    ("fanout-60k", "p99", "p99 at 60,000/s"),
    ("fanout-60k", "redis", "Redis CPU per message"),
    ("fanout-100k", "cpu", "CPU per delivery at 100,000/s"),
    ("fanout-100k", "p99", "p99 at 100,000/s"),
    ("saturation", "cpu", "CPU per delivery at saturation"),
    ("saturation", "rate", "top throughput"),
    ("memory", "per connection", "memory per idle connection"),
];

/// What a reader must know about a run.
#[derive(Debug)]
pub struct About {
    /// The day in UTC.
    pub date: String,
    /// The command that makes such a run.
    pub command: String,
    /// What it ran on.
    pub machine: Vec<String>,
    /// How often and how long it measured.
    pub method: String,
    /// A quick run only shows that everything works: a second is too short to judge speed, so it checks no target.
    pub quick: bool,
}

/// Ours to the floor, and each peer to ours.
pub fn ratios(results: &Results) -> Table {
    let others: Vec<&Subject> = SUBJECTS.iter().filter(|subject| subject.is_peer()).collect();
    let mut table = Table::new(["", "ours / floor"]);
    table.head.extend(others.iter().map(|peer| format!("{} / ours", peer.name)));
    for (scenario, figure, name) in COMPARED {
        let of = |subject| results.median(scenario, subject, figure);
        let mut row = vec![(*name).to_owned(), number(ratio(of(OURS), of(FLOOR)), 2)];
        row.extend(others.iter().map(|peer| number(ratio(of(peer.name), of(OURS)), 2)));
        if row[1..].iter().any(|cell| cell != NOTHING) {
            table.rows.push(row);
        }
    }
    table
}

/// The medians of a scenario.
pub fn figures(results: &Results, scenario: &Scenario) -> Table {
    let mut table = Table::new([""]);
    table.head.extend(scenario.columns.iter().map(|column| column.heading.to_owned()));
    for subject in SUBJECTS.iter().filter(|subject| results.has(scenario.name, subject.name)) {
        let cells = scenario
            .columns
            .iter()
            .map(|column| number(results.median(scenario.name, subject.name, column.figure), column.decimals));
        table.rows.push([subject.name.to_owned()].into_iter().chain(cells).collect());
    }
    table
}

/// What stands in place of ratios and targets in a quick run.
const QUICK: &str = "This was a quick run: it shows that everything works, and nothing about speed.";

/// For a terminal.
pub fn text(results: &Results, quick: bool) -> String {
    let mut text = String::new();
    for scenario in SCENARIOS.iter().filter(|scenario| is_there(results, scenario)) {
        text += &format!("\n{}\n{}", scenario.name, figures(results, scenario).text());
    }
    if quick {
        text += &format!("\n{QUICK}\n");
    } else {
        text += &format!("\nRatios\n{}\nTargets\n{}", ratios(results).text(), targets::table(results).text());
    }
    for failure in results.absent.iter().chain(&results.failures) {
        text += &format!("\nLEFT OUT {failure}\n");
    }
    text
}

/// Writes the page, and leaves in it what people have written.
pub fn write(path: &Path, results: &Results, about: &About) -> Result<()> {
    let old = fs::read_to_string(path).unwrap_or_default();
    Ok(fs::write(path, page(results, about, &old))?)
}

fn page(results: &Results, about: &About, old: &str) -> String {
    let below = old.split_once(MARK).map_or("\n", |(_, below)| below);
    let mut text =
        format!("# Benchmarks\n\nRun on {} by\n\n```sh\n{}\n```\n\n{}\n\n", about.date, about.command, about.method);
    about.machine.iter().for_each(|line| text += &format!("- {line}\n"));
    text += "\n| name | what it is |\n|---|---|\n";
    for subject in SUBJECTS {
        text += &format!("| {} | {} |\n", subject.name, subject.about);
    }
    if about.quick {
        text += &format!("\n{QUICK}\n");
    } else {
        text += &format!("\n## Targets\n\n{}", targets::table(results).markdown());
        text += &format!("\n## Ratios\n\n{}", ratios(results).markdown());
    }
    for scenario in SCENARIOS.iter().filter(|scenario| is_there(results, scenario)) {
        text += &format!("\n## {}\n\n{}\n\n{}", scenario.name, scenario.about, figures(results, scenario).markdown());
    }
    let left_out: Vec<&String> = results.absent.iter().chain(&results.failures).collect();
    if !left_out.is_empty() {
        text += "\n## Left out\n\n";
        left_out.iter().for_each(|failure| text += &format!("- {failure}\n"));
    }
    format!("{text}\n{MARK}{below}")
}

fn is_there(results: &Results, scenario: &Scenario) -> bool {
    SUBJECTS.iter().any(|subject| results.has(scenario.name, subject.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::BUN;

    fn results() -> Results {
        let mut results = Results::default();
        results.add("fanout-60k", OURS, vec![("cpu", 6.0), ("p99", 1.0)]);
        results.add("fanout-60k", FLOOR, vec![("cpu", 5.0)]);
        results.add("fanout-60k", BUN, vec![("cpu", 9.0)]);
        results
    }

    fn about(quick: bool) -> About {
        let (command, method) = ("make bench".into(), "Medians.".into());
        About { date: "a day".into(), command, machine: vec![], method, quick }
    }

    #[test]
    fn a_quick_run_is_held_to_no_target_and_says_so() {
        for quick in [true, false] {
            for shown in [text(&results(), quick), page(&results(), &about(quick), "")] {
                assert_eq!(shown.contains(QUICK), quick, "{shown}");
                assert_eq!(shown.contains("Targets") && shown.contains("Ratios"), !quick, "{shown}");
                assert!(shown.contains("fanout-60k"), "{shown}");
            }
        }
    }

    #[test]
    fn ratios_are_of_ours_to_the_floor_and_of_peers_to_ours() {
        let table = ratios(&results());
        let bun = table.head.iter().position(|heading| heading == "bun / ours").unwrap();
        assert_eq!((table.rows[0][1].as_str(), table.rows[0][bun].as_str()), ("1.20", "1.50"));
        assert_eq!(table.rows.len(), 1, "what has no ratio has no row");
    }

    #[test]
    fn what_people_wrote_stays() {
        let about = about(false);
        let first = page(&results(), &about, "");
        assert!(first.contains("| roomcast | 6.00 |") && first.ends_with(&format!("{MARK}\n")));
        let by_hand = "\n\n## Where the time goes\n\nIn `write`.\n";
        let second = page(&results(), &about, &(first.trim_end().to_owned() + by_hand));
        assert!(second.ends_with(by_hand));
        assert_eq!(page(&results(), &about, &second), second);
    }
}
