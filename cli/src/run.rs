//! Carries out one command line, from arguments to exit code.

use std::ffi::OsString;

use clap::CommandFactory;
use lode_node::command::{Command, Failure, FailureKind};

use crate::action::Action;
use crate::args::Line;
use crate::client::SendError;
use crate::home::Held;
use crate::interrupt::Interrupt;
use crate::render;
use crate::screen::{Screen, write_note};
use crate::settings::{Settings, Source};
use crate::style::Style;

/// Carries out `line` and returns the exit code.
pub(crate) fn run(line: Line) -> u8 {
    let prepared = std::env::current_dir()
        .map_err(|error| failed("cannot tell the current folder", &error))
        .and_then(|cwd| {
            let env = |name: &str| -> Option<OsString> { std::env::var_os(name) };
            let settings = Settings::of(&line.globals, &cwd, env)?;
            Ok((settings, Action::of(line.sub, &cwd)?))
        });
    let (settings, action) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            write_note(&render::failure(&failure, Style::default()));
            return failure.kind.exit_code();
        }
    };
    log_to_stderr(&settings);
    let mut screen = Screen::new(&settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.failure(&failed("cannot start threads", &error));
            return FailureKind::Failed.exit_code();
        }
    };
    let code = runtime.block_on(act(action, &settings, &mut screen));
    // Whatever still blocks a thread was told to stop and is not worth waiting for.
    runtime.shutdown_background();
    code
}

async fn act(action: Action, settings: &Settings, screen: &mut Screen) -> u8 {
    let result = match action {
        Action::Ask(command) => return ask(&command, settings, screen).await,
        Action::Serve(serve) => crate::serve::serve(&serve, settings, screen).await,
        Action::Demo(demo) => crate::demo::demo(&demo, screen).await,
        Action::ConfigShow => {
            config_show(settings, screen);
            Ok(0)
        }
        Action::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Line::command(), "lode", &mut script);
            screen.raw(&script);
            Ok(0)
        }
        Action::Man(dir) => std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Line::command(), &dir))
            .map(|()| 0)
            .map_err(|error| failed(&format!("cannot write to {}", dir.display()), &error)),
    };
    result.unwrap_or_else(|failure| fail(screen, &failure))
}

/// Sends a command to the node of the home, prints what comes back, and returns the exit code.
async fn ask(command: &Command, settings: &Settings, screen: &mut Screen) -> u8 {
    let mut interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(screen, &failed("cannot listen for Ctrl-C", &error)),
    };
    for last in [false, false, true] {
        let opened = tokio::select! {
            opened = Held::open(settings) => opened,
            code = interrupt.wait() => return code,
        };
        let mut held = match opened {
            Ok(held) => held,
            Err(failure) => return fail(screen, &failure),
        };
        let answer = tokio::select! {
            answer = held.send(command, |event| screen.event(command, &event)) => Ok(answer),
            code = interrupt.wait() => Err(code),
        };
        let code = match answer {
            Ok(Ok(outcome)) => {
                screen.outcome(command, &outcome);
                render::verdict(&outcome).map_or(0, FailureKind::exit_code)
            }
            // The node was on its way out when it was asked: whoever holds the home next takes it.
            Ok(Err(SendError::Unanswered(_))) if !last => {
                held.close().await;
                continue;
            }
            Ok(Err(SendError::Unanswered(failure) | SendError::Failed(failure))) => {
                fail(screen, &failure)
            }
            Err(code) => {
                screen.stopping();
                code
            }
        };
        held.close().await;
        return code;
    }
    unreachable!("the last try returns")
}

fn fail(screen: &mut Screen, failure: &Failure) -> u8 {
    screen.failure(failure);
    failure.kind.exit_code()
}

fn config_show(settings: &Settings, screen: &Screen) {
    let row = |name: &str, value: &str, source: Source| format!("{name:<6}  {value}  ({source})\n");
    let yes_no = |value: bool| if value { "yes" } else { "no" };
    let text = [
        row(
            "home",
            &settings.home.value.display().to_string(),
            settings.home.source,
        ),
        row("relay", yes_no(settings.relay.value), settings.relay.source),
        row("mdns", yes_no(settings.mdns.value), settings.mdns.source),
        row("log", &settings.log.value, settings.log.source),
        row("color", yes_no(settings.color.value), settings.color.source),
    ];
    screen.document(settings, &text.concat());
}

/// Sends the program's own log lines to standard error, as far as `LODE_LOG` asks for them.
fn log_to_stderr(settings: &Settings) {
    let filter = tracing_subscriber::EnvFilter::new(&settings.log.value);
    // A second subscriber cannot be set, and none is: this runs once.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(settings.color.value)
        .try_init();
}

/// A failure of the system beneath the program.
pub(crate) fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        message: format!("{what}: {error}"),
        advice: None,
    }
}
