//! Ctrl-C and SIGTERM: the first asks to stop cleanly, the second stops at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells whether the user wants to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    exit_code: watch::Receiver<Option<u8>>,
}

impl Interrupt {
    /// Takes the signals over from the system.
    ///
    /// # Errors
    /// The system hands no signals out.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let (sender, exit_code) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let code: u8 = tokio::select! {
                    Some(()) = int.recv() => 130,
                    Some(()) = term.recv() => 143,
                    else => return,
                };
                if sender.borrow().is_some() {
                    std::process::exit(i32::from(code));
                }
                // Nobody may be left to hear it; a second signal ends the program all the same.
                sender.send_replace(Some(code));
            }
        });
        Ok(Self { exit_code })
    }

    /// Waits for the first signal; returns the exit code that it asks for, 128 + its number.
    pub(crate) async fn wait(&mut self) -> u8 {
        match self.exit_code.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(130),
            // The listener ends only with the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}
