//! What can be said of the image and of docker-compose.yml without Docker. `make compose-up` and `make compose-smoke`
//! try the rest.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use roomcast::config::{Config, SETTINGS};

const DOCKERFILE: &str = "docker/Dockerfile";
const COMPOSE: &str = "docker-compose.yml";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What comes after `key` on each line that has it, without comments.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    code.filter_map(move |line| Some(line.split_once(key)?.1.trim()))
}

#[test]
fn only_settings_that_exist_are_set() {
    let known: Vec<String> = SETTINGS.iter().map(roomcast::config::Setting::name).collect();
    for path in [DOCKERFILE, COMPOSE] {
        let text = read(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("ROOMCAST_")).collect();
        assert!(!names.is_empty(), "{path}");
        for name in names {
            assert!(known.iter().any(|known| known == name), "{path}: {name} is no setting");
        }
    }
}

#[test]
fn the_image_needs_no_shell_no_root_and_no_buildkit() {
    let text = read(DOCKERFILE);
    assert!(!text.contains("syntax=") && !text.contains("--mount"), "it must build without BuildKit too");
    let final_stage = text.rsplit("\nFROM ").next().expect("a stage");
    let only = |key| {
        let found: Vec<&str> = values(final_stage, key).collect();
        assert_eq!(found.len(), 1, "one {key}");
        found[0].to_owned()
    };
    let user = only("USER ");
    let id: u32 = user.split(':').next().and_then(|id| id.parse().ok()).expect("a numeric user");
    assert!(id >= 10_000, "{user}");
    assert_eq!(only("ENTRYPOINT "), r#"["/usr/local/bin/roomcast"]"#);
    assert!(only("HEALTHCHECK ").ends_with(r#" CMD ["/usr/local/bin/roomcast", "health"]"#));
    assert_eq!(only("STOPSIGNAL "), "SIGTERM");
    assert_eq!(values(final_stage, "RUN ").count(), 0);
}

#[test]
fn the_image_is_built_by_a_rust_that_is_new_enough() {
    let (text, manifest) = (read(DOCKERFILE), read("Cargo.toml"));
    let minor =
        |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).expect("a version");
    let image = values(&text, "ARG RUST=rust:").next().and_then(|tag| tag.split('-').next()).expect("a tag");
    let least = values(&manifest, "rust-version = ").next().expect("a version").trim_matches('"');
    assert!(minor(image) >= minor(least), "{image} is older than {least}");
}

/// Cargo reads the manifests of all members of the workspace, whichever it builds.
#[test]
fn the_image_gets_every_manifest() {
    let (manifest, let_through) = (read("Cargo.toml"), read(".dockerignore"));
    let members = values(&manifest, "members = [").next().unwrap_or_default().trim_end_matches(']');
    for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
        let path = Path::new(member).join("Cargo.toml");
        let path = path.strip_prefix(".").unwrap_or(&path).display();
        assert!(let_through.lines().any(|line| line == format!("!{path}")), ".dockerignore lets no {path} through");
    }
}

#[test]
fn a_server_in_compose_has_the_time_that_it_takes_to_stop() {
    let text = read(COMPOSE);
    let grace = values(&text, "stop_grace_period: ").next().expect("a time").trim_end_matches('s');
    let grace = Duration::from_secs(grace.parse().expect("seconds"));
    let (defaults, _) = Config::from_env([]).expect("the defaults are right");
    assert!(grace > defaults.shutdown_timeout, "{grace:?}");
}

#[test]
fn compose_publishes_to_this_machine_alone() {
    let text = read(COMPOSE);
    let ports: Vec<&str> = values(&text, "ports: ").collect();
    assert!(ports.len() >= 3 && ports.iter().all(|ports| ports.starts_with(r#"["127.0.0.1:$"#)), "{ports:?}");
}

/// Containers that are made anew may have other addresses. A name in an `upstream` is looked up once, so none stands there.
#[test]
fn nginx_looks_the_servers_up_again() {
    let nginx = read("docker/nginx.conf");
    assert_eq!(values(&nginx, "resolver ").count(), 1);
    let servers: Vec<&str> = values(&nginx, "server ").filter(|server| !server.starts_with('{')).collect();
    assert!(servers.len() == 4 && servers.iter().all(|server| server.starts_with("127.0.0.1:800")), "{servers:?}");
    assert_eq!(values(&nginx, "proxy_pass http://").collect::<Vec<_>>(), ["by_$affinity;", "$server;"]);
}

/// Redis sets 4 KiB aside for the log of a room with one message, if it is not told to be thrifty.
#[test]
fn redis_keeps_short_logs_short_in_compose_and_in_the_chart() {
    let chart = read("helm/roomcast/templates/redis/configmap.yaml");
    assert_eq!(values(&chart, "stream-node-max-bytes ").collect::<Vec<_>>(), ["1024"]);
    assert!(read(COMPOSE).contains(r#"--stream-node-max-bytes, "1024""#));
}

#[test]
fn compose_mounts_files_that_exist() {
    let text = read(COMPOSE);
    let sources: Vec<&str> = text.split("./docker/").skip(1).filter_map(|rest| rest.split(':').next()).collect();
    assert!(sources.contains(&"nginx.conf"), "{sources:?}");
    for source in sources {
        assert!(Path::new("docker").join(source).is_file(), "docker/{source}");
    }
}

/// Runs scripts/compose.sh with a Docker that only writes down what it is asked, in the dialect of Compose 1.29 or of v2, and
/// that cannot pull `unavailable`. Returns the exit code and what was asked, one line each.
fn compose(action: &str, version: u32, unavailable: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, path) = (directory.path().join("log"), std::env::var_os("PATH").unwrap_or_default());
    let stub = format!(
        "#!/bin/sh\n\
         echo \"$(basename \"$0\") $*\" >>{log}\n\
         case \"$*\" in\n\
         'compose version') [ {version} = 2 ] ;;\n\
         'image inspect '*) exit 1 ;;\n\
         'pull {unavailable}'*) exit 1 ;;\n\
         *'ps -q') echo something runs ;;\n\
         esac\n",
        log = log.display()
    );
    for name in ["docker", "docker-compose"] {
        let program = directory.path().join(name);
        fs::write(&program, &stub).expect("a stub");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its permissions");
    }
    let path = format!("{}:{}", directory.path().display(), path.to_string_lossy());
    let mut script = Command::new("scripts/compose.sh");
    script.arg(action).env("PATH", path).env("COMPOSE_PROFILES", "observability");
    let output = script.output().expect("the script runs");
    (output.status.code(), fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn an_image_that_cannot_be_had_costs_nothing_that_runs() {
    for version in [1, 2] {
        let (code, asked) = compose("up", version, "grafana/");
        assert_eq!(code, Some(1), "{asked}");
        assert!(asked.contains("docker pull grafana/grafana:"), "{asked}");
        assert!(!asked.contains(" rm ") && !asked.contains(" up "), "Compose {version}: {asked}");

        let (code, asked) = compose("up", version, "none");
        let at = |what: &str| asked.find(what).unwrap_or_else(|| panic!("{what} is not in {asked}"));
        assert_eq!(code, Some(0), "{asked}");
        assert!(
            at("docker pull grafana/") < at(" rm ") && at(" build") < at(" rm ") && at(" rm ") < at(" up "),
            "{asked}"
        );
    }
}
