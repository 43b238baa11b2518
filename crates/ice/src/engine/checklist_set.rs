//! The checklists of a session (RFC 8445 sections 6.1.2.6, 6.1.4.2 and 7.2.5.3.3, RFC 8838 section 12): which pairs
//! stop being Frozen.
//!
//! A foundation is tried by one pair of the set at a time, until one succeeds (RFC 8445 section 6.1.4.2). So where it leads nowhere
//! the components fail one after the other, each after all transmissions of its check: four of them after 160 s.

use core::cmp::Reverse;

use smallvec::SmallVec;

use crate::stats::PairState;

/// A pair of a checklist set. Equal foundations are one column of the tables in the RFCs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<F> {
    pub(super) foundation: F,
    /// The place of its checklist in the set.
    pub(super) stream: u16,
    pub(super) component: u16,
    pub(super) priority: u64,
    pub(super) state: PairState,
}

/// The pairs that have become Waiting, by their indices.
///
/// Given all pairs at once it finds what RFC 8445 section 6.1.2.6 has for the beginning; given them one by one, what
/// RFC 8838 section 12 has for candidates that trickle.
pub(super) fn thaw<F: Copy + Ord>(entries: &mut [Entry<F>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&index| {
        let entry = &entries[index];
        let place = (entry.stream, entry.component, Reverse(entry.priority));
        (entry.foundation, place, index)
    });
    let mut thawed = Vec::new();
    let mut idle: Vec<&[usize]> = Vec::new();
    for column in order.chunk_by(|a, b| entries[*a].foundation == entries[*b].foundation) {
        let any = |state| column.iter().any(|&index| entries[index].state == state);
        let is_frozen = |index: &usize| entries[*index].state == PairState::Frozen;
        if any(PairState::Succeeded) {
            // RFC 8445 section 7.2.5.3.3, and rule 2 of RFC 8838.
            thawed.extend(column.iter().copied().filter(is_frozen));
        } else if is_frozen(&column[0]) {
            // RFC 8445 section 6.1.2.6, and rule 1 of RFC 8838: the topmost of its column.
            thawed.push(column[0]);
        } else if !any(PairState::Waiting) && !any(PairState::InProgress) {
            idle.push(column);
        }
    }
    for &index in &thawed {
        entries[index].state = PairState::Waiting;
    }
    // RFC 8445 section 6.1.4.2, step 2: a checklist in which nothing waits takes up a foundation that nobody tries.
    let mut streams: Vec<u16> = entries.iter().map(|entry| entry.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let of_stream =
            |index: usize, state| entries[index].stream == stream && entries[index].state == state;
        if (0..entries.len()).any(|index| of_stream(index, PairState::Waiting)) {
            continue;
        }
        let mut taken = SmallVec::<[usize; 8]>::new();
        idle.retain(|column| {
            let mut column = column.iter().copied();
            let first = column.find(|&index| of_stream(index, PairState::Frozen));
            taken.extend(first);
            first.is_none()
        });
        for &index in &taken {
            entries[index].state = PairState::Waiting;
        }
        thawed.extend(taken);
    }
    thawed
}

#[cfg(test)]
mod tests {
    use super::PairState::{Failed, Frozen, InProgress, Succeeded, Waiting};
    use super::*;

    /// A pair of a table: its row, as stream and component, and its column.
    fn pair(row: (u16, u16), column: u8, state: PairState) -> Entry<u8> {
        Entry {
            foundation: column,
            stream: row.0,
            component: row.1,
            priority: 1,
            state,
        }
    }

    fn after(mut entries: Vec<Entry<u8>>) -> Vec<PairState> {
        let before = entries.clone();
        for index in thaw(&mut entries) {
            assert_eq!(before[index].state, Frozen, "{index}");
            assert_eq!(entries[index].state, Waiting, "{index}");
        }
        entries.iter().map(|entry| entry.state).collect()
    }

    /// The rows and columns of a table, in order.
    fn table(rows: &[((u16, u16), &[u8])]) -> Vec<Entry<u8>> {
        let row = |(row, columns): &((u16, u16), &[u8])| {
            let row = *row;
            columns
                .iter()
                .map(move |column| pair(row, *column, Frozen))
                .collect::<Vec<_>>()
        };
        rows.iter().flat_map(row).collect()
    }

    #[test]
    fn the_initial_states_are_those_of_table_1_of_rfc_8445() {
        // m1 has f1, f2, f3; m2 f1, f2, f3, f4; m3 f1, f5.
        let frozen = table(&[
            ((0, 1), &[1, 2, 3]),
            ((1, 1), &[1, 2, 3, 4]),
            ((2, 1), &[1, 5]),
        ]);
        let expected = [
            [Waiting, Waiting, Waiting].as_slice(),
            &[Frozen, Frozen, Frozen, Waiting],
            &[Frozen, Waiting],
        ];
        assert_eq!(after(frozen), expected.concat());
    }

    #[test]
    fn of_a_checklist_the_lowest_component_goes_first_and_then_the_highest_priority() {
        let of_priority = |component, priority| Entry {
            priority,
            ..pair((0, component), 1, Frozen)
        };
        let frozen = vec![of_priority(2, 9), of_priority(1, 3), of_priority(1, 5)];
        assert_eq!(after(frozen), [Frozen, Frozen, Waiting]);
    }

    /// Tables 2 to 6 of RFC 8838 section 12.
    #[test]
    fn pairs_that_trickle_in_are_thawed_by_the_three_rules_of_rfc_8838() {
        let (s1, s2, s3, s4) = ((0, 1), (0, 2), (1, 1), (1, 2));
        let mut entries = table(&[
            (s1, &[1, 2, 3]),
            (s2, &[1, 2, 3, 4]),
            (s3, &[1]),
            (s4, &[1]),
        ]);
        let mut step = |change: &dyn Fn(&mut Vec<Entry<u8>>)| {
            change(&mut entries);
            let _ = thaw(&mut entries);
            entries.iter().map(|entry| entry.state).collect::<Vec<_>>()
        };
        let (w, f, s) = (Waiting, Frozen, Succeeded);
        assert_eq!(step(&|_| ()), [w, w, w, f, f, f, w, f, f], "table 2");
        let states = step(&|entries| entries[0].state = Succeeded);
        assert_eq!(states, [s, w, w, w, f, f, w, w, w], "table 3");
        let states = step(&|entries| entries.push(pair(s1, 5, Frozen)));
        assert_eq!(states[9..], [w], "table 4, rule 1");
        let states = step(&|entries| {
            entries[9].state = Succeeded;
            entries.push(pair(s2, 5, Frozen));
        });
        assert_eq!(states[9..], [s, w], "table 5, rule 2");
        let states = step(&|entries| entries.push(pair(s3, 3, Frozen)));
        assert_eq!(states[9..], [s, w, f], "table 6, rule 3");
    }

    #[test]
    fn a_pair_above_all_others_of_its_foundation_waits_though_another_is_tried() {
        let entries = vec![pair((1, 1), 1, InProgress), pair((0, 1), 1, Frozen)];
        assert_eq!(after(entries), [InProgress, Waiting]);
    }

    #[test]
    fn a_checklist_without_anything_to_do_takes_up_a_foundation_that_failed_elsewhere() {
        let below = |state| vec![pair((0, 1), 1, state), pair((1, 1), 1, Frozen)];
        assert_eq!(after(below(Failed)), [Failed, Waiting]);
        assert_eq!(after(below(InProgress)), [InProgress, Frozen]);
        // Something else waits there, and goes first.
        let mut busy = below(Failed);
        busy.push(pair((1, 1), 2, Waiting));
        assert_eq!(after(busy), [Failed, Frozen, Waiting]);
        // Two checklists could take it up: one does.
        let mut two = below(Failed);
        two.push(pair((2, 1), 1, Frozen));
        assert_eq!(after(two), [Failed, Waiting, Frozen]);
    }
}
