//! `nilas sim`: sessions in a simulated network.
//!
//! [`sessions`] runs one pair of kinds many times and sums up, [`matrix`] runs every pair, [`page`] writes the
//! matrix as a page, and [`worlds`] runs random ones.

mod matrix;
mod page;
mod sessions;
mod worlds;

use std::thread;

use crate::arguments;
use crate::failure::Failure;

pub(crate) fn run(arguments: &arguments::Sim) -> Result<(), Failure> {
    if let Some(count) = arguments.worlds {
        worlds::run(arguments, count)
    } else if arguments.matrix {
        matrix::run(arguments)
    } else {
        sessions::run(arguments)
    }
}

/// Does the same with every item, on all processors; the results in the items' order.
fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // Small portions, dealt out in turn, so that no processor is left with all the long ones.
    let portions: Vec<&[T]> = items
        .chunks(items.len().div_ceil(threads * 16).max(1))
        .collect();
    let mut done: Vec<(usize, Vec<R>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (portions, work) = (&portions, &work);
                scope.spawn(move || {
                    let mine = portions.iter().enumerate().skip(worker).step_by(threads);
                    mine.map(|(number, portion)| (number, portion.iter().map(work).collect()))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<(usize, Vec<R>)>>| match worker.join()
        {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        for count in [0_u32, 1, 7, 1_000] {
            let items: Vec<_> = (0..count).collect();
            assert_eq!(on_all_processors(&items, |item| *item), items);
        }
    }
}
