//! The examples run, and do what they say.

#[path = "../examples/01_decode.rs"]
mod decode;
#[path = "../examples/02_prefill.rs"]
mod prefill;
#[path = "../examples/03_train_step.rs"]
mod train_step;

#[test]
fn decoding_is_one_scan() {
    decode::main().expect("the outputs of one scan");
}

#[test]
fn decoding_after_a_prompt_is_one_run() {
    prefill::main().expect("the outputs of one run");
}

#[test]
fn the_loss_of_the_training_example_falls() {
    train_step::main().expect("a loss that falls");
}
