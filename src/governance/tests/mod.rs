//! Tests of the kernel: against a reference model and by example.

mod examples;
mod gate;
mod model;
mod possible;
mod reference;
mod rules;
mod world;
