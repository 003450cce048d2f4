//! The calls of a suite on a backend of the crate that takes host tensors.

/// The methods of `Backend` that call one: `host_tensors!(self => Cpu::new())`.
#[macro_export]
macro_rules! host_tensors {
    ($this:ident => $backend:expr) => {
        fn selective_scan_forward<T: Element>(&$this, case: &ScanCase<T>, outputs: &mut ScanBuffers<T>) -> Result<()> {
            let scan = case.scan()?;
            let plan = $backend.forward_plan(&scan)?;
            let (mut out, mut final_state, mut chunk_states, mut delta_sum) = (
                outputs.out.as_mut().map(Buffer::view_mut),
                outputs.final_state.as_mut().map(Buffer::view_mut),
                outputs.chunk_states.as_mut().map(|(every, buffer)| (*every, buffer.view_mut())),
                outputs.delta_sum.as_mut().map(Buffer::view_mut),
            );
            let mut wanted = match &mut out {
                Some(out) => SelectiveScanOutputs::new(out),
                None => SelectiveScanOutputs::states_only(),
            };
            if let Some(view) = &mut delta_sum {
                wanted = wanted.delta_sum(view);
            }
            if let Some(view) = &mut final_state {
                wanted = wanted.final_state(view);
            }
            if let Some((every, view)) = &mut chunk_states {
                wanted = wanted.chunk_states(*every, view);
            }
            $backend.forward_with(&scan, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }

        fn discretise_forward<T: Element>(&$this, case: &DiscretiseCase<T>, outputs: &mut DiscretiseBuffers) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            let mut delta = outputs.delta.view_mut();
            let mut A_bar = outputs.A_bar.view_mut();
            let mut B_bar = outputs.B_bar.view_mut();
            let mut B_prev_bar = outputs.B_prev_bar.as_mut().map(Buffer::view_mut);
            let mut wanted = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
            if let Some(view) = &mut B_prev_bar {
                wanted = wanted.B_prev_bar(view);
            }
            $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }

        fn discretise_backward<T: Element>(
            &$this,
            case: &DiscretiseCase<T>,
            outputs: &mut GradientBuffers<T>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.backward_plan(&op)?;
            let (mut ddt, mut ddt_bias) = (outputs.ddt.view_mut(), outputs.ddt_bias.view_mut());
            let (mut dA, mut dB) = (outputs.dA.view_mut(), outputs.dB.view_mut());
            let mut dlambda = outputs.dlambda.as_mut().map(Buffer::view_mut);
            let mut wanted = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
            if let Some(view) = &mut dlambda {
                wanted = wanted.dlambda(view);
            }
            $backend.backward_with(&op, case.upstream(), wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }

        fn selective_scan_backward<T: Element>(
            &$this,
            case: &ScanCase<T>,
            upstream: &ScanUpstream<T>,
            gradients: &mut ScanGradients<T>,
        ) -> Result<()> {
            let scan = case.scan()?;
            let plan = $backend.backward_plan(&scan)?;
            gradients.with_views(|wanted| {
                $backend.backward_with(&scan, upstream.views(), wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
            })
        }

        fn selective_scan_carry(&$this, case: &CarryCase, carried: &mut Buffer<f32>) -> Result<()> {
            $backend.forward(&case.op()?, SelectiveScanCarryOutputs::new(&mut carried.view_mut()))
        }

        fn causal_conv1d_forward<T: Element, W: Element>(
            &$this,
            case: &ConvCase<T, W>,
            outputs: &mut ConvBuffers<T>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            let (mut out, mut state) = (outputs.out.view_mut(), outputs.final_state.as_mut().map(Buffer::view_mut));
            let wanted = state.iter_mut().fold(CausalConv1dOutputs::new(&mut out), CausalConv1dOutputs::final_state);
            $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }

        fn causal_conv1d_backward<T: Element, W: Element>(
            &$this,
            case: &ConvCase<T, W>,
            upstream: &ConvUpstream<T>,
            gradients: &mut ConvGradients<T, W>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.backward_plan(&op)?;
            gradients.with_views(|wanted| {
                $backend.backward_with(&op, upstream.views(), wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
            })
        }

        fn causal_conv1d_update<T: Element, W: Element>(
            &$this,
            case: &ConvUpdateCase<T, W>,
            out: &mut Buffer<T>,
            state: &mut Buffer<T>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            let (mut out, mut state) = (out.view_mut(), state.view_mut());
            let wanted = CausalConv1dUpdateOutputs::new(&mut out, &mut state);
            $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }

        fn state_update<T: Element, H: Element>(
            &$this,
            case: &UpdateCase<T, H>,
            outputs: &mut UpdateBuffers<T, H>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            let (mut state, mut out) = (outputs.state.view_mut(), outputs.out.view_mut());
            let mut token_states = outputs.token_states.as_mut().map(Buffer::view_mut);
            let wanted = StateUpdateOutputs::new(&mut state, &mut out);
            let wanted = token_states.iter_mut().fold(wanted, StateUpdateOutputs::token_states);
            $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
        }
    };
}

/// Likewise those of `SquaredAttentionBackend`.
#[macro_export]
macro_rules! host_squared_attention {
    ($this:ident => $backend:expr) => {
        fn squared_attention_forward<T: Element>(
            &$this,
            case: &AttentionCase<T>,
            outputs: &mut AttentionBuffers<T>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            outputs.with_views(|wanted| {
                $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
            })
        }

        fn squared_attention_backward<T: Element>(
            &$this,
            case: &AttentionCase<T>,
            upstream: &AttentionUpstream<T>,
            gradients: &mut AttentionGradients<T>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.backward_plan(&op)?;
            gradients.with_views(|wanted| {
                $backend.backward_with(&op, upstream.views(), wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
            })
        }

        fn squared_attention_update<T: Element, H: Element>(
            &$this,
            case: &AttentionUpdateCase<T, H>,
            outputs: &mut AttentionUpdateBuffers<T, H>,
        ) -> Result<()> {
            let op = case.op()?;
            let plan = $backend.forward_plan(&op)?;
            outputs.with_views(|wanted| {
                $backend.forward_with(&op, wanted, &plan, (&mut $crate::common::backends::dirty(&plan)).into())
            })
        }
    };
}
