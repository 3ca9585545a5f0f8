//! The table of metrics in docs/observability.md is what `/metrics` has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::support::Server;

/// The type of a metric and the names of its labels.
type Family = (String, BTreeSet<String>);

/// The families in an answer of `/metrics`. Every series with a label is there from the start.
fn exported(text: &str) -> BTreeMap<String, Family> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let series = text.lines().filter_map(|line| line.strip_prefix(name));
            let mut labels: BTreeSet<String> = series
                .filter_map(|rest| rest.trim_start_matches("_bucket").strip_prefix('{')?.split_once('}'))
                .flat_map(|(labels, _)| labels.split(','))
                .filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
                .collect();
            labels.remove("le");
            (name.to_owned(), (kind.to_owned(), labels))
        })
        .collect()
}

/// The rows of the table with the heading `| name | type | labels | meaning |`.
fn documented(page: &str) -> BTreeMap<String, Family> {
    let rows = page.lines().skip_while(|line| *line != "| name | type | labels | meaning |").skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let ["", name, kind, labels, meaning, ""] = cells[..] else { panic!("four cells in {row}") };
            assert!(meaning.ends_with('.'), "a sentence in {row}");
            let names = labels.split([',', ' ']).filter(|name| !name.is_empty());
            let labels = names.map(|name| name.trim_matches('`').to_owned()).collect();
            (name.trim_matches('`').to_owned(), (kind.to_owned(), labels))
        })
        .collect()
}

#[tokio::test]
async fn the_page_has_every_metric_of_a_running_server_and_no_other() {
    let server = Server::in_memory(&[]).await;
    let (_, text) = server.get("/metrics").await;
    let page = fs::read_to_string("docs/observability.md").unwrap();
    assert_eq!(documented(&page), exported(&text), "docs/observability.md (left) and /metrics (right)");
}

#[test]
fn types_and_labels_are_read_from_both() {
    let text = "# HELP a_total x\n# TYPE a_total counter\na_total{kind=\"x\",why=\"y\"} 0\n\
                # TYPE b histogram\nb_bucket{le=\"1\"} 0\nb_bucket{by=\"z\",le=\"+Inf\"} 0\nb_sum 0\n";
    let page = "| name | type | labels | meaning |\n|---|---|---|---|\n\
                | `a_total` | counter | `kind`, `why` | X. |\n| `b` | histogram | `by` | Y. |\n\n| c | d |\n";
    assert_eq!(exported(text), documented(page));
    assert_eq!(exported(text).len(), 2);
}
