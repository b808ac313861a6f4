//! The command line: `-k PATTERN`, and the arguments that `cargo test -- …` passes to every test
//! program.

pub const HELP: &str = "\
Tests a messenger: a server and two clients.

usage: acceptance [-k PATTERN | FILTER]... [--exact] [--skip FILTER]... [--list]

  -k PATTERN, FILTER   only tests with this in their name: test_server, test_client
  --exact              a FILTER is a whole name
  --skip FILTER        not these
  --list               name the tests, run none

The room under test is at MESSENGER_TEST_SERVER_ADDR, MESSENGER_TEST_CLIENT1_ADDR and
MESSENGER_TEST_CLIENT2_ADDR (host:port). With none of them set it is one of this program's own.
cargo's other arguments for tests (--nocapture, --test-threads and so on) are taken and change nothing.";

#[derive(Debug, Default)]
pub struct Arguments {
    patterns: Vec<String>,
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    /// Only ignored tests, and there are none.
    ignored: bool,
    pub list: bool,
}

pub enum Request {
    Run(Arguments),
    Help,
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        let (name, mut value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let takes_value = matches!(
            name,
            "-k" | "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z"
        );
        if takes_value && value.is_none() {
            value = Some(arguments.next().ok_or_else(|| format!("{name} needs a value"))?);
        }
        match (name, value) {
            ("-k", Some(pattern)) => parsed.patterns.push(pattern),
            ("--skip", Some(filter)) => parsed.skipped.push(filter),
            ("--exact", None) => parsed.exact = true,
            ("--list", None) => parsed.list = true,
            ("--ignored", None) => parsed.ignored = true,
            ("-h" | "--help", None) => return Ok(Request::Help),
            (_, Some(_)) if takes_value => {}
            (
                "--nocapture"
                | "--no-capture"
                | "--show-output"
                | "-q"
                | "--quiet"
                | "--include-ignored"
                | "--test"
                | "--bench"
                | "--shuffle"
                | "--force-run-in-process"
                | "--exclude-should-panic",
                None,
            )
            | ("--report-time" | "--ensure-time", _) => {}
            (name, None) if !name.starts_with('-') => parsed.filters.push(argument),
            _ => return Err(format!("unknown argument {argument:?}, see --help")),
        }
    }
    Ok(Request::Run(parsed))
}

impl Arguments {
    /// Whether the arguments select this test.
    pub fn choose(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter) };
        let asked = self.patterns.iter().any(|pattern| name.contains(pattern)) || self.filters.iter().any(matches);
        let all = self.patterns.is_empty() && self.filters.is_empty();
        (all || asked) && !self.skipped.iter().any(matches) && !self.ignored
    }
}
