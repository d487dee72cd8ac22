//! Requests that one device passes on to another.

use crate::error::Result;
use crate::sync::{Arc, Mutex, Rank};

use super::{BlockDevice, Buffers, Completion, Operation, OperationKind, Request};

/// Hears of the end of a request that was passed on, before the one who waits for it does.
struct Relay<F>(Mutex<Option<(Request, F)>>);

/// Starts `request` on `device`; `ended` hears the outcome just before the request ends.
pub(super) fn pass_on(
    mut request: Request,
    device: &dyn BlockDevice,
    ended: impl FnOnce(&Result<()>) + Send + 'static,
) {
    let buffers = std::mem::take(&mut request.buffers);
    let Request {
        kind,
        offset,
        len,
        fua,
        queue,
        ..
    } = request;
    let relay = Relay(Mutex::new(Rank::Faults, Some((request, ended))));
    let waiting = (Arc::new(relay) as Arc<dyn Completion>, 0);
    let mut passed_on = match kind {
        OperationKind::Read => Request::read(offset, buffers, waiting),
        OperationKind::Write => Request::write(offset, buffers, waiting),
        OperationKind::Flush => Request::flush(waiting),
        OperationKind::Discard => Request::discard(offset, len, waiting),
        OperationKind::WriteZeroes => Request::write_zeroes(offset, len, waiting),
    };
    passed_on.queue = queue;
    device.start(passed_on.with_fua(fua));
}

impl<F: FnOnce(&Result<()>) + Send> Completion for Relay<F> {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        let waiting = self.0.lock().take();
        if let Some((mut request, ended)) = waiting {
            ended(&result);
            request.buffers = buffers;
            request.complete(result);
        }
    }
}

/// What `request` asks for. As many bytes as it carries, whatever its public length says: as the operations that block.
pub(super) fn operation(request: &Request) -> Operation {
    let len = match request.kind {
        OperationKind::Read | OperationKind::Write => request.buffers.byte_len(),
        _ => request.len,
    };
    Operation {
        kind: request.kind,
        offset: request.offset,
        len,
    }
}
