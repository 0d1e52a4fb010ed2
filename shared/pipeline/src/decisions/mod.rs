//! What the processor decides about a batch of records. Pure and synchronous: what the stores answered and what
//! time it is come in as arguments, so every interleaving of redelivery, re-cut batches and crashes is a table test.
//!
//! The steps, in the order in which their effects happen (DESIGN section 6):
//!
//! 1. [`intake`]: which records hold an event, and why the others do not.
//! 2. [`dedup`]: which claims to make, and what the answers mean for each record.
//! 3. [`limits`]: what to count per address, who is over the limit, who is on the block list.
//! 4. [`verdicts`]: what to store about each record, score included.
//! 5. [`recording`]: which events the store takes for copies.
//! 6. [`publication`]: the records that go out, made from the ledger's answer and not from our own view.
//!
//! Apart from them, [`late`]: what to store about events that get their score later. Two more are the
//! replayer's: [`restoration`] turns outcomes back into what was recorded, and [`reprocessing`] decides on records once
//! more, under other rules.
//!
//! # The types on a record's way
//!
//! | type | what it is | made by |
//! |---|---|---|
//! | [`Record`](crate::Record) | the Kafka record as it was delivered | the trigger |
//! | `event::Envelope` | the value of a record that ingest wrote | ingest |
//! | [`Event`](crate::tracked::Event) | what is known of the event in it | [`intake`] |
//! | [`Tracked`](crate::tracked::Tracked) | the record with what each step has found so far | [`intake`], then each step |
//! | [`Claim`](crate::ports::Claim) | the wish to own an event id | [`dedup`] |
//! | [`LedgerEntry`](crate::ports::LedgerEntry) | how the record ended | the store |
//! | `OutcomeValue` | the value of the record on `processed-events` | [`publication`] |
//! | [`NewRecord`](crate::ports::NewRecord) | a Kafka record to write: the outcome, a dead letter | [`publication`] |
//!
//! A batch is in the order of topic, partition and offset, as the trigger decodes it, and every step keeps that order.

pub mod dedup;
pub mod intake;
pub mod late;
pub mod limits;
pub mod publication;
pub mod recording;
pub mod reprocessing;
pub mod restoration;
pub mod verdicts;

#[cfg(test)]
pub(crate) mod samples;
