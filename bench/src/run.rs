use std::{io::Write, thread::park, time::Instant};

use crate::{arguments::Arguments, results::Results, scenario::Scenario, stage::Stage, subject::Subject};

/// Measures everything chosen: each scenario in several rounds, and in each round one subject after the other, so that
/// other work on the machine hits all of them alike.
pub fn run(arguments: &Arguments, stage: &Stage) -> Results {
    let mut results = Results::default();
    let scenarios = arguments.scenarios();
    let subjects = installed(arguments, stage, &scenarios, &mut results);
    for scenario in scenarios {
        println!("\n{}: {}", scenario.name, scenario.about);
        let mut subjects: Vec<_> = subjects.iter().copied().filter(|subject| (scenario.takes)(subject)).collect();
        for round in 1..=arguments.runs {
            subjects.retain(|subject| round == 1 || scenario.compares_peers || !subject.is_peer());
            // One that cannot be measured is not tried again.
            subjects.retain(|subject| measure(stage, scenario, subject, (round, arguments.runs), &mut results));
        }
    }
    results
}

/// Those that are wanted and available.
fn installed(
    arguments: &Arguments,
    stage: &Stage,
    scenarios: &[&'static Scenario],
    results: &mut Results,
) -> Vec<&'static Subject> {
    let mut subjects = arguments.subjects();
    subjects.retain(|subject| scenarios.iter().any(|scenario| (scenario.takes)(subject)));
    subjects.retain(|subject| match stage.peers.install(subject, &stage.children) {
        Ok(()) => true,
        Err(error) => {
            leave_out(stage, &mut results.absent, format!("{}: {error}", subject.name));
            false
        }
    });
    subjects
}

fn measure(
    stage: &Stage,
    scenario: &'static Scenario,
    subject: &'static Subject,
    (round, rounds): (usize, usize),
    results: &mut Results,
) -> bool {
    print!("  {round}/{rounds} {:<22}", subject.name);
    // So that a person sees what is going on; the rest of the line comes later.
    let _ = std::io::stdout().flush();
    let start = Instant::now();
    match (scenario.measure)(stage, subject) {
        Ok(figures) => {
            let shown = scenario.columns.iter().filter_map(|column| {
                let (_, value) = figures.iter().find(|(figure, _)| *figure == column.figure)?;
                Some(format!("{} {value:.*}", column.figure, column.decimals))
            });
            println!("{}  ({:.0} s)", shown.collect::<Vec<_>>().join(", "), start.elapsed().as_secs_f64());
            results.add(scenario.name, subject.name, figures);
            true
        }
        Err(error) => {
            println!();
            leave_out(stage, &mut results.failures, format!("{} in {}: {error}", subject.name, scenario.name));
            false
        }
    }
}

fn leave_out(stage: &Stage, list: &mut Vec<String>, text: String) {
    while stage.children.have_ended() {
        // Nothing is wrong: its processes were ended, and this one ends next.
        park();
    }
    println!("  LEFT OUT {text}");
    list.push(text);
}
