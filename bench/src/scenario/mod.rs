//! What is measured, and how.

mod api;
mod attack;
mod beside;
mod big_room;
mod churn;
mod connect;
mod fanout;
mod memory;
mod publish;
mod saturation;
mod small_rooms;

use crate::{Result, results::Figures, stage::Stage, subject::Subject};

/// One way to put subjects under load.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, on the command line too.
    pub name: &'static str,
    /// What is done, for a reader of the table.
    pub about: &'static str,
    /// What the table shows.
    pub columns: &'static [Column],
    /// Whether a target compares peers in it. Where none does, they are measured in the first round only.
    pub compares_peers: bool,
    /// Whether it has anything to say of a subject.
    pub takes: fn(&Subject) -> bool,
    /// Measures a subject once.
    pub measure: fn(&Stage, &'static Subject) -> Result<Figures>,
}

/// A column of a scenario's table.
#[derive(Debug)]
pub struct Column {
    /// The figure that it shows.
    pub figure: &'static str,
    /// Its heading, with the unit.
    pub heading: &'static str,
    /// Digits after the point.
    pub decimals: usize,
}

const fn column(figure: &'static str, heading: &'static str, decimals: usize) -> Column {
    Column { figure, heading, decimals }
}

/// All there are, in the order in which they are run.
pub const SCENARIOS: &[Scenario] = &[
    fanout::AT_60K,
    fanout::AT_100K,
    fanout::SHORT,
    saturation::SCENARIO,
    small_rooms::SCENARIO,
    big_room::SCENARIO,
    memory::SCENARIO,
    connect::SCENARIO,
    churn::SCENARIO,
    publish::SCENARIO,
    api::SCENARIO,
    attack::SCENARIO,
];
