//! The list of tests that `main` runs: each test has a name, its own runtime, and may turn out to
//! be ignored.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};

use super::Backend;

/// The payload of an unwinding test that cannot run here.
struct Ignored(String);

/// Lists the tests of a module by the names of their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::support::suite::test(module_path!(), stringify!($name), $name)),*]
    };
}

/// Lists the tests of a module that run once for each backend of the room.
#[allow(unused_macros)]
macro_rules! tests_of_each_backend {
    ($($name:ident),* $(,)?) => {
        [$($crate::support::suite::test_of_each_backend(module_path!(), stringify!($name), $name)),*]
            .into_iter()
            .flatten()
            .collect::<Vec<libtest_mimic::Trial>>()
    };
}

#[allow(unused_imports)]
pub(crate) use {tests, tests_of_each_backend};

/// A test that is named after its module and its function.
pub fn test<F>(module: &str, name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::ignorable_test(full_name(module, name), move || run(succeed(test())))
}

/// The same test once for each backend, whose name comes first: `memory::…` and `redis::…`.
pub fn test_of_each_backend<F>(module: &str, name: &str, test: fn(Backend) -> F) -> [Trial; 2]
where
    F: Future<Output = ()> + 'static,
{
    let name = full_name(module, name);
    [(Backend::Memory, "memory"), (Backend::Redis, "redis")].map(|(backend, prefix)| {
        Trial::ignorable_test(format!("{prefix}::{name}"), move || run(succeed(test(backend))))
    })
}

/// Ends the running test, which then counts as ignored.
pub fn ignore(reason: impl Into<String>) -> ! {
    // Unlike a panic, this prints nothing.
    resume_unwind(Box::new(Ignored(reason.into())))
}

/// Ends the running test because a tool is missing: the test counts as ignored, and fails where
/// `CI` is `true`.
pub fn missing(tool: &str) -> ! {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "needs {tool}, and CI is true");
    ignore(format!("needs {tool}"))
}

/// Requires a program, which Debian has in this package. Any exit status of `program --version`
/// will do.
pub fn require(program: &str, package: &str) {
    let version = std::process::Command::new(program).arg("--version").output();
    if version.is_err() {
        missing(&format!("{program} (Debian: {package})"));
    }
}

fn full_name(module: &str, name: &str) -> String {
    let (_crate, module) = module.split_once("::").expect("a module of the crate");
    format!("{module}::{name}")
}

/// A test that panics when it fails.
async fn succeed(test: impl Future<Output = ()>) -> Result<(), Failed> {
    test.await;
    Ok(())
}

/// Runs a test on a runtime of its own. What it leaves behind has a moment to end.
pub fn run<E: Into<Failed>>(test: impl Future<Output = Result<(), E>>) -> Result<Completion, Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test)));
    runtime.shutdown_timeout(Duration::from_secs(5));
    match outcome {
        Ok(result) => result.map(|()| Completion::Completed).map_err(Into::into),
        Err(payload) => match payload.downcast::<Ignored>() {
            Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
            Err(panic) => resume_unwind(panic),
        },
    }
}
