//! The module table in ARCHITECTURE.md is what the code does: a module imports those above it, and no others.

use std::{collections::BTreeSet, fs, path::Path};

/// The first column of the module table, top to bottom.
fn table() -> Vec<String> {
    let text = fs::read_to_string("ARCHITECTURE.md").expect("ARCHITECTURE.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| module |")).skip(2);
    let names = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').nth(1).expect("a first column").trim().trim_matches('`').to_owned());
    names.collect()
}

/// Every module that `crate::` paths in this source name.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let path = &code[start + "crate::".len()..];
        let Some(group) = path.strip_prefix('{') else {
            modules.insert(name(path));
            continue;
        };
        // In `crate::{a::x, b::{y, z}}` each name at the first level of braces is a module.
        let (mut depth, mut expected) = (1, true);
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expected = true,
                c if depth == 1 && expected && c.is_alphabetic() => {
                    modules.insert(name(&group[at..]));
                    expected = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    modules
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn sources(path: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("a source file")));
        }
    }
}

#[test]
fn each_module_imports_only_those_above_it_in_the_table() {
    let table = table();
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut modules = BTreeSet::new();
    for (path, source) in &files {
        let module = path.trim_start_matches("src/").split(['/', '.']).next().expect("a module").to_owned();
        if module == "main" || module == "lib" {
            continue;
        }
        let place = table.iter().position(|name| *name == module);
        let place = place.unwrap_or_else(|| panic!("{path}: ARCHITECTURE.md's table has no `{module}`"));
        for import in imports(source) {
            let allowed = import == module || table[..place].contains(&import);
            assert!(allowed, "{path} imports `{import}`, which is not above `{module}` in ARCHITECTURE.md's table");
        }
        modules.insert(module);
    }
    let listed: BTreeSet<String> = table.into_iter().collect();
    assert_eq!(modules, listed, "the table lists just the modules that there are");
}

#[test]
fn the_reading_of_imports_sees_what_is_there() {
    let source = "use crate::{\n    hub::{Hub, Outbox},\n    order::Sequencer,\n};\nfn f() -> crate::config::Config {}\n// crate::none";
    let expected: BTreeSet<String> = ["hub", "order", "config"].map(str::to_owned).into();
    assert_eq!(imports(source), expected);
}
