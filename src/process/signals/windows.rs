//! What a console of Windows says.

use std::future::pending;
use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

use super::StopRequest;

/// The status of a program that was ended by Ctrl-C (`STATUS_CONTROL_C_EXIT`).
const STATUS: i32 = 0xC000_013A_u32.cast_signed();

/// What ends a program. After the last three Windows gives it a few seconds.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: CtrlC,
    terminate: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
}

/// There is no SIGHUP: files are read again when they have changed.
#[derive(Debug)]
pub(crate) struct Hangups;

impl Signals {
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
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        pending::<()>().await;
    }
}
