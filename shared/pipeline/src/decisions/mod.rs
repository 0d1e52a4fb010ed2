//! The processor's decisions about a batch of records. Pure and synchronous: the answers of the stores and the time are
//! arguments, so every interleaving of redeliveries, differently cut batches and crashes can be a table test.
//!
//! The steps, in the order in which their effects happen (DESIGN section 6):
//!
//! 1. [`intake`]: which records hold an event, and why the others do not.
//! 2. [`dedup`]: which claims to make, and what the answers mean for each record.
//! 3. [`limits`]: what to count per address, who is over the limit, who is on the block list.
//! 4. [`verdicts`]: what to store about each record, score included.
//! 5. [`recording`]: which events the store treats as copies.
//! 6. [`publication`]: the records to publish, made from the ledger entries and not from the decisions of this run.
//!
//! Other modules: [`size`] decides, right after [`intake`], which records are too large to publish, and
//! [`preparedness`] whether this build is fit for the batch. [`late`] decides what to store about events that get their score later. The replayer uses
//! [`restoration`], which turns outcomes back into what was recorded, and [`reprocessing`], which decides on records
//! again under other rules.
//!
//! # The types that a record passes through
//!
//! | type | what it is | made by |
//! |---|---|---|
//! | [`Record`](crate::Record) | the Kafka record as it was delivered | the trigger |
//! | `event::Envelope` | the value of a record that ingest wrote | ingest |
//! | [`Event`](crate::tracked::Event) | what is known about the event in it | [`intake`] |
//! | [`Tracked`](crate::tracked::Tracked) | the record with what each step has found so far | [`intake`], then each step |
//! | [`Claim`](crate::ports::Claim) | a request to own an event id | [`dedup`] |
//! | [`LedgerEntry`](crate::ports::LedgerEntry) | how the record ended | the store |
//! | `OutcomeValue` | the value of the record on `processed-events` | [`publication`] |
//! | [`NewRecord`](crate::ports::NewRecord) | a Kafka record to write: the outcome, a dead letter | [`publication`] |
//!
//! A batch is in the order of topic, partition and offset, as the trigger decodes it, and every step keeps that order.

pub mod dedup;
pub mod intake;
pub mod late;
pub mod limits;
pub mod preparedness;
pub mod publication;
pub mod recording;
pub mod reprocessing;
pub mod restoration;
pub mod size;
pub mod verdicts;

#[cfg(test)]
pub(crate) mod samples;
