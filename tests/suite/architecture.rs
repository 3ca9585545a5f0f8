//! The code keeps to the module table in ARCHITECTURE.md: each module imports only the modules, and names only the
//! crates, that the table allows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

// A parser for Rust, so that no way of writing an import escapes. The derives build all three crates anyway.
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree};

type Names = BTreeSet<String>;

/// One row of the table.
#[derive(Debug, Default)]
struct Row {
    imports: Names,
    crates: Names,
}

/// The rows, top to bottom.
fn table(text: &str) -> Vec<(String, Row)> {
    let lines = text.lines().skip_while(|line| !line.starts_with("| module |")).skip(2);
    let names = |cell: &str| cell.split([',', ' ']).map(bare).filter(|name| !name.is_empty()).collect();
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, module, _, imports, crates, ..] = cells[..] else { panic!("a row has four cells: {line}") };
            (bare(module), Row { imports: names(imports), crates: names(crates) })
        })
        .collect()
}

fn bare(name: &str) -> String {
    name.trim_matches(['`', '*']).to_owned()
}

/// The names of the crates in one table of a Cargo.toml, as code writes them.
fn dependencies(manifest: &str, table: &str) -> Names {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    let entries = lines.take_while(|line| !line.starts_with('['));
    let names = entries.filter_map(|line| line.split_once(" = ").filter(|_| !line.starts_with('#')));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

/// Something outside its own module that a source file mentions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mention {
    path: String,
    line: usize,
    /// The module, if it is ours, or else the crate.
    name: String,
    is_module: bool,
}

impl fmt::Display for Mention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_module { "module" } else { "crate" };
        write!(f, "{}:{}: the {kind} `{}`", self.path, self.line, self.name)
    }
}

/// Reads one source file.
struct Reading<'a> {
    path: &'a str,
    /// Where its module is, such as `["broker", "redis", "link"]`.
    module: Vec<String>,
    crates: &'a Names,
    mentions: Vec<Mention>,
}

impl<'a> Reading<'a> {
    /// What the code outside tests mentions.
    fn of(path: &'a str, source: &str, crates: &'a Names) -> Vec<Mention> {
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module = inside.split('/').map(str::to_owned).collect();
        let mut reading = Self { path, module, crates, mentions: Vec::new() };
        let file = syn::parse_file(source).unwrap_or_else(|error| panic!("{path}: {error}"));
        file.items.iter().for_each(|item| reading.item(item));
        reading.mentions
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Mod(module) => {
                self.module.push(module.ident.to_string());
                module.content.iter().flat_map(|(_, items)| items).for_each(|item| self.item(item));
                self.module.pop();
            }
            Item::Fn(function) if is_test(&function.attrs) => {}
            Item::Impl(implementation) if is_test(&implementation.attrs) => {}
            Item::Use(import) if is_test(&import.attrs) => {}
            Item::Use(import) => self.import(&import.tree, &mut Vec::new()),
            other => self.tokens(other.to_token_stream()),
        }
    }

    fn import(&mut self, tree: &UseTree, prefix: &mut Vec<(String, usize)>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push((path.ident.to_string(), path.ident.span().start().line));
                self.import(&path.tree, prefix);
                prefix.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Name(_) | UseTree::Rename(_) | UseTree::Glob(_) => {
                let ident = match tree {
                    UseTree::Name(name) => Some(&name.ident),
                    UseTree::Rename(rename) => Some(&rename.ident),
                    _ => None,
                };
                let last = ident.map(|ident| (ident.to_string(), ident.span().start().line));
                let path: Vec<_> = prefix.iter().cloned().chain(last).collect();
                self.mention(&path);
            }
        }
    }

    /// Paths in code, in the input of macros too.
    fn tokens(&mut self, stream: TokenStream) {
        let mut path: Vec<(String, usize)> = Vec::new();
        let mut colons = 0;
        for token in stream {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.mention(&std::mem::take(&mut path));
                    }
                    path.push((ident.to_string(), ident.span().start().line));
                    colons = 0;
                }
                other => {
                    self.mention(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.mention(&path);
    }

    /// Notes where a path leads, if that is outside its module.
    fn mention(&mut self, path: &[(String, usize)]) {
        let Some((head, line)) = path.first() else { return };
        let up = path.iter().take_while(|(name, _)| name == "super").count();
        let inside = match head.as_str() {
            "crate" | "roomcast" => path.get(1),
            // A path that leaves its module through `super` leads to another one.
            "super" if up >= self.module.len() => path.get(up),
            _ if self.crates.contains(head) && path.len() > 1 => {
                let (name, line) = (head.clone(), *line);
                self.mentions.push(Mention { path: self.path.to_owned(), line, name, is_module: false });
                return;
            }
            _ => return,
        };
        if let Some((name, line)) = inside.filter(|(name, _)| *name != self.module[0]) {
            let (name, line) = (name.clone(), *line);
            self.mentions.push(Mention { path: self.path.to_owned(), line, name, is_module: true });
        }
    }
}

/// Whether code is compiled only for tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
    })
}

fn sources(path: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        // Files with only tests are marked as such where they are included.
        let is_test =
            path.file_stem().is_some_and(|stem| ["tests", "memory", "fuzz", "rules"].iter().any(|name| stem == *name));
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !(is_test && is_declared_for_tests(&path))
        {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// Whether the file above a module declares it for tests only.
fn is_declared_for_tests(path: &Path) -> bool {
    let (name, folder) = (path.file_stem().expect("a name"), path.parent().expect("a folder"));
    let above = [folder.join("mod.rs"), folder.with_extension("rs")];
    let declared = format!("#[cfg(test)]\nmod {};", name.display());
    above.iter().any(|above| fs::read_to_string(above).is_ok_and(|source| source.contains(&declared)))
}

/// What each module mentions, by its name.
fn mentions(crates: &Names) -> BTreeMap<String, Vec<Mention>> {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut modules: BTreeMap<String, Vec<Mention>> = BTreeMap::new();
    for (path, source) in &files {
        let module = path.trim_start_matches("src/").split(['/', '.']).next().expect("a module");
        if module != "main" && module != "lib" {
            modules.entry(module.to_owned()).or_default().extend(Reading::of(path, source, crates));
        }
    }
    modules
}

#[test]
fn each_module_imports_and_names_what_the_table_allows_and_nothing_else() {
    let rows = table(&fs::read_to_string("ARCHITECTURE.md").expect("ARCHITECTURE.md"));
    let crates = dependencies(&fs::read_to_string("Cargo.toml").expect("Cargo.toml"), "dependencies");
    let modules = mentions(&crates);
    let listed: Names = rows.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(modules.keys().cloned().collect::<Names>(), listed, "the table lists just the modules that there are");

    let mut wrong = Vec::new();
    for (at, (module, row)) in rows.iter().enumerate() {
        for import in &row.imports {
            let is_above = rows[..at].iter().any(|(above, _)| above == import);
            assert!(is_above, "ARCHITECTURE.md lets `{module}` import `{import}`, which is not a row above it");
        }
        let of = |is_module| modules[module].iter().filter(move |mention| mention.is_module == is_module);
        for (is_module, allowed) in [(true, &row.imports), (false, &row.crates)] {
            let forbidden = of(is_module).filter(|mention| !allowed.contains(&mention.name));
            wrong
                .extend(forbidden.map(|mention| format!("{mention}, which ARCHITECTURE.md does not allow `{module}`")));
            let used: Names = of(is_module).map(|mention| mention.name.clone()).collect();
            let unused = allowed.difference(&used);
            wrong.extend(
                unused.map(|name| format!("ARCHITECTURE.md allows `{module}` `{name}`, which it does not use")),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let named: Names = rows.iter().flat_map(|(_, row)| row.crates.iter().cloned()).collect();
    // It is the program's allocator, named in src/main.rs.
    let unnamed: Vec<_> = crates.difference(&named).filter(|name| *name != "tikv_jemallocator").collect();
    assert!(unnamed.is_empty(), "Cargo.toml has dependencies that no module names: {unnamed:?}");
}

/// What measures or judges the server shares no code with it.
#[test]
fn the_other_crates_depend_on_what_they_may() {
    for (member, ours) in [("load", &[][..]), ("bench", &["roomcast_load"]), ("faults", &[])] {
        let manifest = fs::read_to_string(format!("{member}/Cargo.toml")).expect("a manifest");
        let depends: Names = dependencies(&manifest, "dependencies");
        let depends: Vec<_> = depends.iter().filter(|name| name.starts_with("roomcast")).collect();
        assert_eq!(depends, ours, "{member}/Cargo.toml");
    }
}

#[test]
fn no_way_of_writing_an_import_is_missed() {
    let crates: Names = ["prometheus", "tokio"].map(str::to_owned).into();
    let source = r#"
        use crate::{
            hub::{Hub, Outbox},
            order::Sequencer as Order,
        };
        use super::super::super::session;
        use super::inner;
        use tokio::{net::TcpStream, sync::*};
        fn f(gauge: &prometheus::IntGauge) -> crate::config::Config {
            tokio::select! { _ = roomcast::server::run() => {} }
            let tokio = 1;
            tokio
        }
        // crate::none
        mod inline {
            use super::super::super::super::http;
        }
        #[cfg(test)]
        mod tests {
            use crate::load;
        }
    "#;
    let found = Reading::of("src/broker/redis/link.rs", source, &crates);
    let names = |is_module: bool| -> Names {
        found.iter().filter(|mention| mention.is_module == is_module).map(|mention| mention.name.clone()).collect()
    };
    let modules = ["config", "http", "hub", "order", "server", "session"].map(str::to_owned);
    assert_eq!((names(true), names(false)), (modules.into(), crates));
    let lines: Vec<_> =
        found.iter().filter(|mention| mention.name == "prometheus").map(|mention| mention.line).collect();
    assert_eq!(lines, [9], "a failure names the line");
}

#[test]
fn the_table_is_read_as_people_read_it() {
    let rows = table(
        "x\n| module | owns | may import | may name |\n|---|---|---|---|\n| `a` | it | | `tokio`, `redis` |\n| `b` | that | `a` | |\n\nend",
    );
    assert_eq!(rows.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(rows[0].1.crates, ["redis", "tokio"].map(str::to_owned).into());
    assert!(rows[0].1.imports.is_empty() && rows[1].1.imports.contains("a") && rows[1].1.crates.is_empty());
}
