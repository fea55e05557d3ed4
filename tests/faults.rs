//! When the provider misbehaves: the matrix of every fault, and what the documents say of each cell.

mod chaos;
mod check;
mod matrix;
mod outage;
mod rows;
mod rules;
mod run;
mod scenes;
mod table;
mod upstream;
