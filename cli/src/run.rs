//! Carries out one command line, from arguments to exit code.

use std::ffi::OsString;

use clap::CommandFactory;
use lode_node::command::{Command, Failure, FailureKind, Outcome};

use crate::action::Action;
use crate::args::Line;
use crate::home::with_node;
use crate::interrupt::Interrupt;
use crate::render;
use crate::screen::{Screen, write_note};
use crate::settings::Settings;
use crate::style::Style;

/// How a command ended, short of its exit code.
enum End {
    Done(Outcome),
    Failed(Failure),
    Interrupted(u8),
}

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
        Action::Man(dir) => clap_mangen::generate_to(Line::command(), &dir)
            .map(|()| 0)
            .map_err(|error| failed(&format!("cannot write to {}", dir.display()), &error)),
    };
    result.unwrap_or_else(|failure| {
        screen.failure(&failure);
        failure.kind.exit_code()
    })
}

/// Sends a command to the node of the home and prints what comes back.
async fn ask(command: &Command, settings: &Settings, screen: &mut Screen) -> u8 {
    match ended(command, settings, screen).await {
        End::Done(outcome) => {
            screen.outcome(command, &outcome);
            render::verdict(&outcome).map_or(0, FailureKind::exit_code)
        }
        End::Failed(failure) => {
            screen.failure(&failure);
            failure.kind.exit_code()
        }
        End::Interrupted(code) => code,
    }
}

async fn ended(command: &Command, settings: &Settings, screen: &mut Screen) -> End {
    let mut interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return End::Failed(failed("cannot listen for Ctrl-C", &error)),
    };
    let mut held = match with_node(settings).await {
        Ok(held) => held,
        Err(failure) => return End::Failed(failure),
    };
    let end = tokio::select! {
        reply = held.client().send(command, |event| screen.event(command, &event)) => match reply {
            Ok(outcome) => End::Done(outcome),
            Err(failure) => End::Failed(failure),
        },
        code = interrupt.wait() => End::Interrupted(code),
    };
    if matches!(end, End::Interrupted(_)) {
        screen.stopping();
    }
    // Closing the connection cancels the request; a node of our own then cleans up before we end.
    held.finish().await;
    end
}

fn config_show(settings: &Settings, screen: &Screen) {
    let row = |name: &str, value: String, source| format!("{name:<6}  {value}  ({source:?})\n");
    let text = row(
        "home",
        settings.home.value.display().to_string(),
        settings.home.source,
    ) + &row(
        "relay",
        settings.relay.value.to_string(),
        settings.relay.source,
    ) + &row("log", settings.log.value.clone(), settings.log.source)
        + &row(
            "color",
            settings.color.value.to_string(),
            settings.color.source,
        );
    screen.document(settings, &text.to_lowercase());
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
