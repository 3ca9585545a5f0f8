//! The result of a run, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    run::Outcome,
    verdict::{Kind, Verdict},
};

/// How many violations of a kind are explained; more of the same do not help.
const EXPLAINED: usize = 4;

const COLUMNS: [&str; 10] = [
    "scenario",
    "sent",
    "acked",
    "delivered",
    "replayed",
    "reported lost",
    "silently lost",
    "doubled",
    "out of order",
    "live again",
];

fn cells(outcome: &Outcome) -> [String; 10] {
    let verdict = &outcome.verdict;
    let count = |kind| verdict.count(kind).to_string();
    [
        outcome.scenario.name.to_owned(),
        verdict.sent.to_string(),
        verdict.acked.to_string(),
        verdict.delivered.to_string(),
        verdict.replayed.to_string(),
        verdict.reported_lost.to_string(),
        count(Kind::SilentlyLost),
        count(Kind::Doubled),
        count(Kind::OutOfOrder),
        live_again(verdict),
    ]
}

fn live_again(verdict: &Verdict) -> String {
    verdict.live_again.map_or("never".into(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// The heading of the table for a terminal.
pub fn heading() -> String {
    row(&COLUMNS.map(str::to_owned))
}

/// A row of it.
pub fn line(outcome: &Outcome) -> String {
    row(&cells(outcome))
}

fn row(cells: &[String; 10]) -> String {
    let mut text = format!("{:<20}", cells[0]);
    for (cell, name) in cells.iter().zip(COLUMNS).skip(1) {
        let width = name.len().max(8);
        let _ = write!(text, " {cell:>width$}");
    }
    text
}

/// What was wrong in a scenario, and what else there is to say; nothing if all was well and that is all.
pub fn explanation(outcome: &Outcome) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let of_kind = || outcome.verdict.violations.iter().filter(|violation| violation.kind == kind);
        for violation in of_kind().take(EXPLAINED) {
            let _ = writeln!(text, "  {violation}");
        }
        let more = of_kind().skip(EXPLAINED).count();
        if more > 0 {
            let _ = writeln!(text, "  {kind}: {more} more");
        }
    }
    if let Some(herd) = &outcome.verdict.herd {
        let _ = writeln!(text, "  {herd}");
    }
    if let Some(kept) = &outcome.kept {
        let _ = writeln!(text, "  record and logs: {}", kept.display());
    }
    text
}

/// The result for a program.
pub fn json(outcomes: &[Outcome], seed: u64) -> Value {
    let scenario = |outcome: &Outcome| {
        let verdict = &outcome.verdict;
        json!({
            "scenario": outcome.scenario.name,
            "sent": verdict.sent,
            "acked": verdict.acked,
            "delivered": verdict.delivered,
            "replayed": verdict.replayed,
            "interrupted": verdict.interrupted,
            "reported_lost": verdict.reported_lost,
            "silently_lost": verdict.count(Kind::SilentlyLost),
            "doubled": verdict.count(Kind::Doubled),
            "out_of_order": verdict.count(Kind::OutOfOrder),
            "not_converged": verdict.count(Kind::NotConverged),
            "unexpected": verdict.count(Kind::Unexpected),
            "live_again_seconds": verdict.live_again.map(|time| time.as_secs_f64()),
            "herd": verdict.herd,
        })
    };
    json!({ "seed": seed, "scenarios": outcomes.iter().map(scenario).collect::<Vec<_>>() })
}

/// The section of `docs/reliability.md`.
pub fn markdown(outcomes: &[Outcome], seed: u64, date: &str, command: &str) -> String {
    let mut text = format!("Run on {date} with seed {seed}:\n\n```sh\n{command}\n```\n\n");
    let table_row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    text += &table_row(&COLUMNS.map(str::to_owned));
    text += &format!("|---|{}\n", "--:|".repeat(COLUMNS.len() - 1));
    for outcome in outcomes {
        text += &table_row(&cells(outcome));
    }
    for (outcome, herd) in outcomes.iter().filter_map(|outcome| Some((outcome, outcome.verdict.herd.as_ref()?))) {
        text += &format!("\n{}: {herd}\n", outcome.scenario.name);
    }
    text += "\n| scenario | what happens | \"live again\" counts from |\n|---|---|---|\n";
    for outcome in outcomes {
        let scenario = outcome.scenario;
        text += &table_row(&[scenario.name, scenario.about, scenario.counted_from].map(str::to_owned));
    }
    text
}
