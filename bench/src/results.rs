use std::collections::BTreeMap;

/// The figures of one measurement, by their names.
pub type Figures = Vec<(&'static str, f64)>;

/// A place in the results: scenario, subject and figure.
type Key = (&'static str, &'static str, &'static str);

/// All figures of a run, one for each time that they were measured.
#[derive(Debug, Default)]
pub struct Results {
    figures: BTreeMap<Key, Vec<f64>>,
    /// What is missing on this machine, and how to get it.
    pub absent: Vec<String>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Results {
    /// Adds what a scenario has measured of a subject.
    pub fn add(&mut self, scenario: &'static str, subject: &'static str, figures: Figures) {
        for (figure, value) in figures {
            self.figures.entry((scenario, subject, figure)).or_default().push(value);
        }
    }

    /// The median of the runs.
    pub fn median(&self, scenario: &'static str, subject: &'static str, figure: &'static str) -> Option<f64> {
        median(self.figures.get(&(scenario, subject, figure))?)
    }

    /// The highest of the runs, for what must never happen.
    pub fn worst(&self, scenario: &'static str, subject: &'static str, figure: &'static str) -> Option<f64> {
        self.figures.get(&(scenario, subject, figure))?.iter().copied().reduce(f64::max)
    }

    /// Whether a scenario has any figure of a subject.
    pub fn has(&self, scenario: &str, subject: &str) -> bool {
        self.figures.keys().any(|key| (key.0, key.1) == (scenario, subject))
    }

    /// Every single value, for a program.
    pub fn json(&self) -> serde_json::Value {
        let row = |((scenario, subject, figure), values): (&Key, &Vec<f64>)| serde_json::json!({ "scenario": scenario, "subject": subject, "figure": figure, "median": median(values), "values": values });
        self.figures.iter().map(row).collect()
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(sorted[middle - 1].midpoint(sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_mind_the_order_or_an_outlier() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[900.0, 1.0, 5.0, 4.0, 3.0]), Some(4.0));
    }

    #[test]
    fn figures_of_several_runs_are_put_together() {
        let mut results = Results::default();
        for value in [1.0, 7.0, 2.0] {
            results.add("fanout", "ours", vec![("cpu", value)]);
        }
        assert_eq!(results.median("fanout", "ours", "cpu"), Some(2.0));
        assert_eq!(results.worst("fanout", "ours", "cpu"), Some(7.0));
        assert_eq!(results.median("fanout", "theirs", "cpu"), None);
        assert!(results.has("fanout", "ours") && !results.has("memory", "ours"));
    }
}
