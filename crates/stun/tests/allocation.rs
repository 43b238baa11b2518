//! Parsing borrows and building writes into the caller's buffer: a check costs no allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nilas_stun::{Class, Fingerprint, Key, Message, MessageBuilder, Method, TransactionId};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches a constant-initialized thread-local cell and allocates nothing itself.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_check_is_built_and_verified_without_an_allocation() {
    assert_ne!(allocations_of(|| drop(Box::new(1))), 0, "the count counts");

    let key = Key::short_term_with_sha256("VOkJxbRl1RmTxUk/WvJxBt").unwrap();
    let mapped = "[2001:db8::1]:5000".parse().unwrap();
    let mut buffer = [0; 256];
    let mut length = 0;
    let building = allocations_of(|| {
        let id = TransactionId::new([5; 12]);
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
        builder.username_pair("remote", "local").unwrap();
        builder.priority(1).unwrap().ice_controlling(2).unwrap();
        builder.xor_mapped_address(mapped).unwrap();
        builder.message_integrity(&key).unwrap();
        builder.message_integrity_sha256(&key, 32).unwrap();
        builder.fingerprint().unwrap();
        length = builder.finish();
    });
    assert_eq!(building, 0);

    let reading = allocations_of(|| {
        let message = Message::parse(&buffer[..length]).unwrap();
        assert_eq!(message.fingerprint(), Fingerprint::Valid);
        let request = message.authenticate(&key).unwrap();
        assert_eq!(request.username(), Ok(Some("remote:local")));
        assert_eq!(request.xor_mapped_address(), Ok(Some(mapped)));
        assert_eq!(request.attributes().count(), 7);
        assert_eq!(request.unknown_comprehension_required().count(), 0);
    });
    assert_eq!(reading, 0);
}
