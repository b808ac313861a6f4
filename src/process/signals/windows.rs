//! The console events of Windows.

use std::future::pending;
use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

use super::stop_request::StopRequest;

/// The exit status of a program that Ctrl-C has ended (`STATUS_CONTROL_C_EXIT`).
const STATUS: i32 = 0xC000_013A_u32.cast_signed();

/// The handlers of the events that end the program. After the last three Windows grants it a few
/// seconds.
#[derive(Debug)]
pub(super) struct Handlers {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

/// Windows has no SIGHUP. Files are reloaded when they change.
#[derive(Debug)]
pub(crate) struct Hangups;

impl Handlers {
    pub(super) fn catch(_files_are_read: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            terminate: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    pub(super) async fn first(&mut self) -> StopRequest {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "Ctrl-Break",
            _ = self.close.recv() => "close",
            _ = self.logoff.recv() => "logoff",
            _ = self.shutdown.recv() => "shutdown",
        };
        StopRequest { name, status: STATUS }
    }

    pub(super) async fn second(&mut self) -> StopRequest {
        self.first().await
    }
}

impl Hangups {
    #[allow(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        pending::<()>().await;
    }
}
