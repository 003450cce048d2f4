//! The examples run, and do what they say.

#[path = "../examples/01_decode.rs"]
mod decode;
#[path = "../examples/06_mamba_block.rs"]
#[allow(dead_code, reason = "its main reads the command line, which is the test's here")]
mod mamba_block;
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

#[test]
fn the_model_of_the_block_example_gives_the_upstream_definition_logits() {
    println!("{}", mamba_block::run(mamba_block::MODEL).expect("the file's logits"));
}
