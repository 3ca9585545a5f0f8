use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asks for as many files as this process may have, and returns how many that is; `None` is no limit.
///
/// Whoever starts a program, be it systemd or a container runtime, often gives it 1024 and leaves it to the program to
/// take more.
pub fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}
