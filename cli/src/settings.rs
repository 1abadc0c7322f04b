//! The settings in force: arguments first, then the environment, then what holds when neither speaks.
//!
//! The environment is read here and nowhere else; everything below the binary gets values.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lode_node::command::{Failure, FailureKind};
use serde::Serialize;

use crate::args::Globals;

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Argument,
    Environment,
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Argument => "argument",
            Self::Environment => "environment",
            Self::Default => "default",
        })
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Set<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// What every command goes by.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    /// Home folder, absolute.
    pub(crate) home: Set<PathBuf>,
    /// Whether relays and lookup services may be used.
    pub(crate) relay: Set<bool>,
    /// Whether nodes of the local network are sought.
    pub(crate) mdns: Set<bool>,
    /// Filter of the program's own log lines, as `tracing` reads it.
    pub(crate) log: Set<String>,
    /// Whether human output may use colour.
    pub(crate) color: Set<bool>,
    #[serde(skip)]
    pub(crate) json: bool,
    #[serde(skip)]
    pub(crate) quiet: bool,
}

impl Settings {
    /// Works the settings out of the arguments and of `env`, the lookup of an environment variable.
    ///
    /// # Errors
    /// No home folder can be worked out.
    pub(crate) fn of(
        globals: &Globals,
        cwd: &Path,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = match (&globals.home, env("LODE_HOME")) {
            (Some(home), _) => Set {
                value: home.clone(),
                source: Source::Argument,
            },
            (None, Some(home)) => Set {
                value: home.into(),
                source: Source::Environment,
            },
            (None, None) => Set {
                value: default_home(&env)?,
                source: Source::Default,
            },
        };
        let offline = env("LODE_OFFLINE").is_some_and(|value| is_on(&value));
        let relay = match (globals.no_relay, offline) {
            (true, _) => Set {
                value: false,
                source: Source::Argument,
            },
            (false, true) => Set {
                value: false,
                source: Source::Environment,
            },
            (false, false) => Set {
                value: true,
                source: Source::Default,
            },
        };
        let log = match env("LODE_LOG") {
            Some(log) => Set {
                value: log.to_string_lossy().into_owned(),
                source: Source::Environment,
            },
            None => Set {
                value: "off".to_owned(),
                source: Source::Default,
            },
        };
        let plain = env("NO_COLOR").is_some() || env("TERM").is_some_and(|term| term == "dumb");
        let color = match plain {
            true => Set {
                value: false,
                source: Source::Environment,
            },
            false => Set {
                value: true,
                source: Source::Default,
            },
        };
        Ok(Self {
            home: Set {
                value: cwd.join(home.value).components().collect(),
                source: home.source,
            },
            relay,
            mdns: Set {
                value: globals.mdns,
                source: if globals.mdns {
                    Source::Argument
                } else {
                    Source::Default
                },
            },
            log,
            color,
            json: globals.json,
            quiet: globals.quiet,
        })
    }

    /// The control socket of the home.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.value.join("control.sock")
    }
}

/// `lode` in the XDG data folder.
fn default_home(env: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    // The XDG specification: a relative path in these variables is to be ignored.
    let absolute = |name| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("lode"))
        .ok_or_else(|| Failure {
            kind: FailureKind::Usage,
            message: "there is no home folder: HOME is not set".to_owned(),
            advice: Some("name one with --home DIR or LODE_HOME".to_owned()),
        })
}

/// Whether a variable switches something on: set, and not to a word for no.
fn is_on(value: &OsString) -> bool {
    !matches!(
        value.to_string_lossy().to_ascii_lowercase().as_str(),
        "" | "0" | "false" | "no" | "off"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(globals: &Globals, vars: &[(&str, &str)]) -> Result<Settings, Failure> {
        Settings::of(globals, Path::new("/cwd"), |name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| OsString::from(v))
        })
    }

    #[test]
    fn the_home_is_the_argument_then_the_variable_then_the_data_folder() {
        let all = [
            ("LODE_HOME", "env"),
            ("XDG_DATA_HOME", "/xdg"),
            ("HOME", "/me"),
        ];
        let given = Globals {
            home: Some("arg".into()),
            ..Globals::default()
        };
        let none = Globals::default();
        let home = |globals, vars: &[_]| settings(globals, vars).unwrap().home;
        assert_eq!(home(&given, &all).value, Path::new("/cwd/arg"));
        assert_eq!(home(&none, &all).value, Path::new("/cwd/env"));
        assert_eq!(home(&none, &all[1..]).value, Path::new("/xdg/lode"));
        assert_eq!(
            home(&none, &all[2..]).value,
            Path::new("/me/.local/share/lode")
        );
        let odd = [
            ("LODE_HOME", ""),
            ("XDG_DATA_HOME", "relative"),
            ("HOME", "/me"),
        ];
        assert_eq!(home(&none, &odd).value, Path::new("/me/.local/share/lode"));
        assert_eq!(home(&none, &odd).source, Source::Default);
        assert_eq!(settings(&none, &[]).unwrap_err().kind, FailureKind::Usage);
    }

    #[test]
    fn offline_is_an_argument_or_a_variable_that_says_yes() {
        let home = ("HOME", "/me");
        let relay = |vars: &[_]| settings(&Globals::default(), vars).unwrap().relay.value;
        assert!(relay(&[home]));
        assert!(!relay(&[home, ("LODE_OFFLINE", "1")]));
        assert!(!relay(&[home, ("LODE_OFFLINE", "true")]));
        assert!(relay(&[home, ("LODE_OFFLINE", "0")]));
        assert!(relay(&[home, ("LODE_OFFLINE", "")]));
        let given = Globals {
            no_relay: true,
            ..Globals::default()
        };
        assert!(!settings(&given, &[home]).unwrap().relay.value);
    }

    #[test]
    fn no_color_and_dumb_terminals_are_respected() {
        let home = ("HOME", "/me");
        let color = |vars: &[_]| settings(&Globals::default(), vars).unwrap().color.value;
        assert!(color(&[home]));
        assert!(!color(&[home, ("NO_COLOR", "1")]));
        assert!(color(&[home, ("NO_COLOR", "")]));
        assert!(!color(&[home, ("TERM", "dumb")]));
    }
}
