//! The project's targets, and whether a run met them.

use crate::{
    results::Results,
    subject::{BUN, FLOOR, NODE, OURS, SUBJECTS},
    table::{NOTHING, Table, number, ratio},
};

/// The target of a figure.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One target.
struct Target {
    about: &'static str,
    bound: Bound,
    decimals: usize,
    unit: &'static str,
    figure: fn(&Results) -> Option<f64>,
}

impl Bound {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

const TARGETS: &[Target] = &[
    Target {
        about: "CPU per delivery at 60,000 a second, in single writes of the floor",
        bound: Bound::AtMost(1.2),
        decimals: 2,
        unit: " ×",
        figure: |results| ratio(results.median("fanout-60k", OURS, "cpu"), single_write(results)),
    },
    Target {
        about: "CPU per delivery at saturation, in single writes of the floor",
        bound: Bound::AtMost(0.6),
        decimals: 2,
        unit: " ×",
        figure: |results| ratio(results.median("saturation", OURS, "cpu"), single_write(results)),
    },
    Target {
        about: "top throughput, in that of Bun",
        bound: Bound::AtLeast(1.5),
        decimals: 2,
        unit: " ×",
        figure: |results| against(results, "saturation", "rate", BUN),
    },
    Target {
        about: "top throughput, in that of Node `ws`",
        bound: Bound::AtLeast(2.0),
        decimals: 2,
        unit: " ×",
        figure: |results| against(results, "saturation", "rate", NODE),
    },
    Target {
        about: "p99 at 60,000 a second, in that of the best peer",
        bound: Bound::AtMost(1.0),
        decimals: 2,
        unit: " ×",
        figure: |results| {
            let peers = SUBJECTS.iter().filter(|subject| subject.is_peer());
            let best = peers.filter_map(|peer| results.median("fanout-60k", peer.name, "p99")).reduce(f64::min);
            ratio(results.median("fanout-60k", OURS, "p99"), best)
        },
    },
    Target {
        about: "p99 at 100,000 a second, in that of Bun",
        bound: Bound::AtMost(1.2),
        decimals: 2,
        unit: " ×",
        figure: |results| against(results, "fanout-100k", "p99", BUN),
    },
    Target {
        about: "members that saw another order, at 60,000 or 100,000 a second, in the worst run",
        bound: Bound::AtMost(0.0),
        decimals: 0,
        unit: "",
        figure: |results| {
            let worst = |scenario| results.worst(scenario, OURS, "disorder");
            Some(worst("fanout-60k")?.max(worst("fanout-100k")?))
        },
    },
    Target {
        about: "CPU of Redis per publish with history, in plain PUBLISHes",
        bound: Bound::AtMost(1.3),
        decimals: 2,
        unit: " ×",
        figure: |results| against(results, "fanout-60k", "redis", FLOOR),
    },
    Target {
        about: "resident memory per idle connection that has joined a room",
        bound: Bound::AtMost(6.0),
        decimals: 2,
        unit: " KiB",
        figure: |results| results.median("memory", OURS, "per connection"),
    },
    Target {
        about: "resident memory after all have gone, in that before they came",
        bound: Bound::AtMost(1.1),
        decimals: 2,
        unit: " ×",
        figure: |results| results.median("memory", OURS, "ratio"),
    },
    Target {
        about: "messages that did not reach a member of the room of 10,000, in the worst run",
        bound: Bound::AtMost(0.0),
        decimals: 0,
        unit: "",
        figure: |results| results.worst("big-room", OURS, "big missing"),
    },
    Target {
        about: "p99 of the others while the room of 10,000 gets messages, in what it was",
        bound: Bound::AtMost(2.0),
        decimals: 2,
        unit: " ×",
        figure: |results| results.median("big-room", OURS, "ratio"),
    },
    Target {
        about: "CPU per delivery in 1,000 rooms of 2 with all they can say, in that of rooms of 100 at 60,000 a second",
        bound: Bound::AtMost(2.0),
        decimals: 2,
        unit: " ×",
        figure: |results| {
            ratio(results.median("small-rooms", OURS, "at once"), results.median("fanout-60k", OURS, "cpu"))
        },
    },
    Target {
        about: "CPU per delivery in 1,000 rooms of 2, in that of rooms of 100, both at 4,000 a second",
        bound: Bound::AtMost(2.0),
        decimals: 2,
        unit: " ×",
        figure: |results| results.median("small-rooms", OURS, "ratio"),
    },
    Target {
        about: "joins and leaves a second on one server",
        bound: Bound::AtLeast(20_000.0),
        decimals: 0,
        unit: "",
        figure: |results| results.median("churn", OURS, "rate"),
    },
    Target {
        about: "p99 of the others meanwhile, in what it was",
        bound: Bound::AtMost(2.0),
        decimals: 2,
        unit: " ×",
        figure: |results| results.median("churn", OURS, "ratio"),
    },
    Target {
        about: "p99 in ms of honest clients beside the worst attack on a server with its default limits",
        bound: Bound::AtMost(50.0),
        decimals: 1,
        unit: "",
        figure: |results| {
            let figures =
                ["p99 pings", "p99 refused", "p99 flood"].map(|figure| results.median("attack", OURS, figure));
            figures.into_iter().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max))
        },
    },
    Target {
        about: "failures among 10,000 connections made at once, in the worst run",
        bound: Bound::AtMost(0.0),
        decimals: 0,
        unit: "",
        figure: |results| results.worst("connect", OURS, "failed"),
    },
    Target {
        about: "what those already connected missed or lost meanwhile, in the worst run",
        bound: Bound::AtMost(0.0),
        decimals: 0,
        unit: "",
        figure: |results| {
            let worst = |figure| results.worst("connect", OURS, figure);
            Some(worst("others missing")? + worst("others lost")?)
        },
    },
];

/// All targets, with this run's figures.
pub fn table(results: &Results) -> Table {
    let mut table = Table::new(["target", "bound", "figure", "met"]);
    for Target { about, bound, decimals, unit, figure } in TARGETS {
        let (sign, limit) = match bound {
            Bound::AtMost(limit) => ("≤", limit),
            Bound::AtLeast(limit) => ("≥", limit),
        };
        let figure = figure(results);
        let met = figure.map_or(NOTHING, |figure| if bound.is_met(figure) { "yes" } else { "no" });
        let shown = figure.map_or(NOTHING.to_owned(), |figure| format!("{}{unit}", number(Some(figure), *decimals)));
        table.rows.push(vec![(*about).to_owned(), format!("{sign} {limit}{unit}"), shown, met.to_owned()]);
    }
    table
}

/// One write to one socket, under the load of 60,000 a second: the least that a single delivery can cost.
fn single_write(results: &Results) -> Option<f64> {
    results.median("fanout-60k", FLOOR, "write")
}

fn against(results: &Results, scenario: &'static str, figure: &'static str, other: &'static str) -> Option<f64> {
    ratio(results.median(scenario, OURS, figure), results.median(scenario, other, figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(results: &Results, about: &str) -> Vec<String> {
        let table = table(results);
        table.rows.into_iter().find(|row| row[0].starts_with(about)).unwrap()
    }

    #[test]
    fn a_target_is_met_or_not_or_not_measured() {
        let mut results = Results::default();
        let about = "CPU per delivery at 60,000";
        assert_eq!(row(&results, about)[2..], ["–", "–"]);
        results.add("fanout-60k", OURS, vec![("cpu", 6.0)]);
        results.add("fanout-60k", FLOOR, vec![("write", 5.0), ("cpu", 5.5)]);
        assert_eq!(row(&results, about)[1..], ["≤ 1.2 ×", "1.20 ×", "yes"]);
        results.add("fanout-60k", OURS, vec![("cpu", 6.2)]);
        assert_eq!(row(&results, about)[2..], ["1.22 ×", "no"]);
    }

    #[test]
    fn the_best_peer_counts_and_the_worst_run() {
        let mut results = Results::default();
        results.add("fanout-60k", OURS, vec![("p99", 2.0), ("disorder", 0.0)]);
        results.add("fanout-60k", OURS, vec![("p99", 2.0), ("disorder", 3.0)]);
        results.add("fanout-60k", NODE, vec![("p99", 4.0)]);
        assert_eq!(row(&results, "p99 at 60,000")[2..], ["0.50 ×", "yes"]);
        results.add("fanout-60k", BUN, vec![("p99", 1.6)]);
        assert_eq!(row(&results, "p99 at 60,000")[2..], ["1.25 ×", "no"]);
        // Half a check is none.
        assert_eq!(row(&results, "members that saw another order")[3], NOTHING);
        results.add("fanout-100k", OURS, vec![("disorder", 0.0)]);
        assert_eq!(row(&results, "members that saw another order")[2..], ["3", "no"]);
    }

    #[test]
    fn every_target_asks_for_figures_that_a_scenario_shows() {
        use crate::scenario::SCENARIOS;
        let mut results = Results::default();
        for (scenario, column) in
            SCENARIOS.iter().flat_map(|scenario| scenario.columns.iter().map(move |column| (scenario, column)))
        {
            for subject in SUBJECTS {
                results.add(scenario.name, subject.name, vec![(column.figure, 1.0)]);
            }
        }
        let without: Vec<String> =
            table(&results).rows.into_iter().filter(|row| row[3] == NOTHING).map(|row| row[0].clone()).collect();
        assert!(without.is_empty(), "{without:?}");
    }
}
