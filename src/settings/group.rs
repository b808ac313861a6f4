//! Settings that are valid only together: clap parses the flags one by one, and a function checks
//! them.

/// Implements clap's traits for `$made`, a group of arguments. clap parses `$flags`, and `$check`
/// makes `$made` from them, or returns the error as one line. `$check` also gets all parsed
/// arguments, for settings of other groups.
macro_rules! settings_group {
    ($made:ty, $flags:ty, $check:expr) => {
        impl clap::FromArgMatches for $made {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                let flags = <$flags as clap::FromArgMatches>::from_arg_matches(matches)?;
                let check: fn($flags, &clap::ArgMatches) -> Result<Self, String> = $check;
                check(flags, matches).map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error))
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for $made {
            fn augment_args(command: clap::Command) -> clap::Command {
                <$flags as clap::Args>::augment_args(command)
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                <$flags as clap::Args>::augment_args_for_update(command)
            }
        }
    };
}

pub(crate) use settings_group;
