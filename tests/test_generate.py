import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from torch.utils._python_dispatch import TorchDispatchMode

from skdistill.backbones import ClosedFormBackbone, DiTBackbone
from skdistill.generate import (
    FAMILY,
    NOT_FROM_SAMPLES,
    BatchedCalls,
    class_generator,
    clean_prediction,
    denoise,
    draw_noise,
    invert,
    make_scheduler,
    model_prediction,
    noised,
    paper_rate,
    remaining_timesteps,
    sample_generator,
    signal_level,
)
from skdistill.guidance import Guidance, PosteriorTangents, PreparedTangents, Targets

SCHEDULERS = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "PNDMScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
]


@pytest.fixture(scope="module")
def backbone():
    X, y = load_iris(return_X_y=True)
    return ClosedFormBackbone(random_state=0).fit(X, y, 3)


def run(backbone, scheduler, *, guidance=None, targets=None, n=60, paper_form=False, steps=50):
    scheduler = make_scheduler(scheduler, backbone.default_scheduler)
    scheduler.set_timesteps(steps)
    generators = [sample_generator(0, 0, i) for i in range(n)]
    x = draw_noise(
        backbone.latent_shape, generators, scheduler, torch.empty(0, dtype=torch.float64)
    )
    return denoise(
        backbone,
        x,
        torch.zeros(n, dtype=torch.int64),
        scheduler,
        BatchedCalls(1000),
        guidance=guidance,
        targets=targets,
        paper_form=paper_form,
        generators=generators,
    )


def targets_at(point, n=60):
    centroid = torch.tensor([point] * n, dtype=torch.float64)
    return Targets(centroid, torch.ones(n, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "prediction_type"),
    [
        (name, prediction_type)
        for name in SCHEDULERS
        for prediction_type in ("epsilon", "v_prediction", "sample")
        if prediction_type != "sample" or name not in NOT_FROM_SAMPLES
    ],
)
def test_every_scheduler_draws_from_the_mixture(backbone, name, prediction_type):
    class Converted:
        """The same model in other terms."""

        latent_shape = backbone.latent_shape
        default_scheduler = diffusers.DDPMScheduler(prediction_type=prediction_type)

        @staticmethod
        def predict(x_t, t, alpha_bar, labels, guidance_scale):
            noise = backbone.predict(x_t, t, alpha_bar, labels, guidance_scale)
            x0 = clean_prediction(noise, x_t, alpha_bar, "epsilon")
            return model_prediction(x0, x_t, alpha_bar, prediction_type)

    z = run(Converted, name, n=400)
    mixture = backbone.mixtures[0]
    mean = mixture.weights @ mixture.means
    assert torch.linalg.vector_norm(z.mean(0) - mean) < 0.15
    # Schedulers of higher order end at zero noise, those of first order a step above it.
    spread = (z - z.mean(0)).square().sum(1).mean().sqrt()
    trace = mixture.weights @ (mixture.variances.sum(1) + 4 * mixture.isotropic)
    between = mixture.weights @ (mixture.means - mean).square().sum(1)
    assert spread == pytest.approx(float((trace + between).sqrt()), rel=0.2)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_guidance_lands_nearer_to_the_centroid_under_every_scheduler(backbone, name):
    targets = targets_at([-2.0, 1.0, -1.0, -1.0])
    free = run(backbone, name)
    distances = []
    for strength in (0.1, 0.5, 1.0):
        guided = run(
            backbone, name, guidance=Guidance(strength, interval=(0, 0.8)), targets=targets
        )
        assert torch.isfinite(guided).all()
        distances.append(torch.linalg.vector_norm(guided - targets.centroid, dim=1).mean())
    unguided = torch.linalg.vector_norm(free - targets.centroid, dim=1).mean()
    assert distances[0] < unguided
    assert sorted(distances, reverse=True) == distances


@pytest.mark.parametrize("name", SCHEDULERS)
def test_zero_strength_and_an_empty_interval_are_the_unguided_model(backbone, name):
    free = run(backbone, name)
    targets = targets_at([0.0] * 4)
    for guidance in (Guidance(strength=0.0), Guidance(strength=1.0, interval=(0.5, 0.5))):
        assert torch.equal(run(backbone, name, guidance=guidance, targets=targets), free)


@pytest.mark.parametrize(
    "name", ["DDPMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_guidance_to_the_end_at_full_strength_arrives(backbone, name):
    targets = targets_at([0.5, -0.5, 1.0, 0.0])
    guidance = Guidance(strength=1.0, interval=(0.0, 1.0))
    guided = run(backbone, name, guidance=guidance, targets=targets)
    torch.testing.assert_close(guided, targets.centroid, atol=0.02, rtol=0.0)


def test_guided_share_of_a_run_is_counted_in_noise_levels(backbone):
    class Counting(Guidance):
        def correct(self, x0, x_t, alpha_bar, step, targets, rate=1.0):
            steps.append(step)
            return x0

    for name, expected in (("DDPMScheduler", list(range(25))), ("PNDMScheduler", None)):
        steps = []
        run(backbone, name, guidance=Counting(0.5), targets=targets_at([0.0] * 4))
        if expected is None:
            # Warm-up calls repeat noise levels; the last guided one is still the 25th.
            assert len(steps) > 25
            assert (min(steps), max(steps)) == (0, 24)
        else:
            assert steps == expected


@pytest.mark.parametrize(("name", "copies_a_step"), [("DDIMScheduler", 0), ("DDPMScheduler", 1)])
@pytest.mark.parametrize("tangents", ["prepared", "posterior"])
def test_the_loop_waits_for_no_device(dit_folder, name, copies_a_step, tangents):
    """A device that holds no values, so that none can be read from it.

    DDPM draws its noise on the host, whatever the device; nothing else is copied there.
    """

    class Copies(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if function is torch.ops.aten._to_copy.default:
                to = kwargs.get("device")
                self.count += to is not None and to != args[0].device
            return function(*args, **kwargs)

    backbone = DiTBackbone(dit_folder).to("meta")
    scheduler = make_scheduler(name, backbone.default_scheduler)
    scheduler.set_timesteps(4)
    options = {"device": "meta"}
    planes = {
        "prepared": PreparedTangents(
            torch.empty(2, 3, 64, **options), torch.empty(2, 3, 5, 64, **options)
        ),
        "posterior": PosteriorTangents(
            torch.empty(3, 9, 64, **options),
            torch.empty(3, 9, **options),
            torch.empty(3, 9, 9, **options),
            n_components=5,
            ridge=1e-6,
        ),
    }[tangents]
    targets = Targets(torch.empty(3, 64, **options), torch.empty(3, **options), planes)
    with Copies() as copies:
        denoise(
            backbone,
            torch.empty(3, *backbone.latent_shape, **options),
            torch.empty(3, dtype=torch.int64, **options),
            scheduler,
            BatchedCalls(2),
            guidance=Guidance(normal_strength=0.1, interval=(0.0, 1.0), stages=2),
            targets=targets,
            generators=[sample_generator(0, 0, i) for i in range(3)],
        )
    # The last step of DDPM adds no noise.
    assert copies.count <= copies_a_step * 4


def test_the_papers_update_equals_the_corrected_clean_prediction(backbone):
    """x_prev = posterior mean + strength * sigma_t * g + noise, at every step."""
    strength = 0.1
    scheduler = make_scheduler(None, backbone.default_scheduler)
    scheduler.set_timesteps(50)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    centroid = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    labels = torch.zeros(7, dtype=torch.int64)
    targets = Targets(centroid, torch.ones(7, dtype=torch.float64))
    guidance = Guidance(strength, interval=(0.0, 1.0), clip=False)
    for t in scheduler.timesteps:
        alpha_bar = signal_level(scheduler, t)
        noise = backbone.predict(x, t, alpha_bar, labels)
        x0 = clean_prediction(noise, x, alpha_bar, "epsilon")
        plain = scheduler.step(noise, t, x, generator=torch.Generator().manual_seed(1)).prev_sample
        # The standard deviation that DDPM itself adds.
        sigma = scheduler._get_variance(int(t)).sqrt() if t > 0 else 0.0
        expected = plain + strength * sigma * (centroid - x0)

        corrected = guidance.correct(x0, x, alpha_bar, 0, targets, rate=paper_rate(scheduler, t))
        prediction = model_prediction(corrected, x, alpha_bar, "epsilon")
        step = scheduler.step(prediction, t, x, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(step.prev_sample, expected, atol=1e-4, rtol=1e-4)
        x = plain


def test_paper_weights_are_as_large_as_the_method_says():
    scheduler = diffusers.DDPMScheduler()
    scheduler.set_timesteps(50)
    w = [0.1 * paper_rate(scheduler, t) for t in scheduler.timesteps]
    assert 15 < w[0] < 23
    assert 0.5 < w[20] < 2
    assert w[-1] == 0.0


def test_the_paper_form_leaves_the_data_unless_it_is_clipped(backbone):
    class Watched:
        latent_shape = backbone.latent_shape
        default_scheduler = diffusers.DDPMScheduler()

        @staticmethod
        def predict(x_t, *conditions):
            norms.append(torch.linalg.vector_norm(x_t, dim=1).mean())
            return backbone.predict(x_t, *conditions)

    targets = targets_at([-2.0, 1.0, -1.0, -1.0])
    farthest = {}
    for clip in (True, False):
        norms = []
        guidance = Guidance(1.0, interval=(0.0, 0.5), clip=clip)
        run(Watched, None, guidance=guidance, targets=targets, paper_form=True)
        farthest[clip] = max(norms)
    assert farthest[True] < 3
    assert farthest[False] > 1.5 * farthest[True]


def run_from_the_middle(backbone, name, share, z, steps=50):
    scheduler = make_scheduler(name, backbone.default_scheduler)
    scheduler.set_timesteps(steps)
    timesteps = remaining_timesteps(scheduler, share)
    generators = [sample_generator(0, 0, i) for i in range(len(z))]
    x = noised(z, generators, scheduler, timesteps)
    labels = torch.zeros(len(z), dtype=torch.int64)
    calls = BatchedCalls(1000)
    return denoise(
        backbone, x, labels, scheduler, calls, timesteps=timesteps, generators=generators
    )


@pytest.fixture(scope="module")
def setosas(backbone):
    return torch.from_numpy(backbone.encode(load_iris().data[:50]))


STOCHASTIC = [
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
]


@pytest.fixture(scope="module", params=[0.4, 0.6, 0.8])
def solution(request, backbone, setosas):
    """The share of a run and, nearly, where its differential equation leads."""
    share = request.param
    return share, run_from_the_middle(backbone, "DDIMScheduler", share, setosas, steps=1000)


@pytest.mark.parametrize("name", sorted(set(FAMILY) - set(STOCHASTIC)))
def test_runs_from_the_middle_solve_the_same_equation(backbone, setosas, solution, name):
    share, exact = solution
    z = run_from_the_middle(backbone, name, share, setosas)
    first_order = run_from_the_middle(backbone, "DDIMScheduler", share, setosas)
    error, largest, moved = (
        torch.linalg.vector_norm(end - exact, dim=1).mean() for end in (z, first_order, setosas)
    )
    assert error < 1.1 * largest < 0.2 * moved


def test_pndm_begins_anew_in_the_middle(backbone):
    scheduler = make_scheduler("PNDMScheduler", backbone.default_scheduler)
    scheduler.set_timesteps(10)
    assert remaining_timesteps(scheduler, 0.45).tolist() == [400, 300, 300, 200, 100, 0]
    assert remaining_timesteps(scheduler, 0.05).tolist() == [0]


@pytest.mark.parametrize("name", FAMILY)
def test_the_signal_level_is_that_of_what_the_model_sees(backbone, name):
    class Watched:
        default_scheduler = backbone.default_scheduler

        @staticmethod
        def predict(x_t, t, alpha_bar, labels, guidance_scale):
            # All of the signal is in one place, so what is left of it can be read off.
            levels.append((float(alpha_bar), float(x_t.mean()) ** 2))
            return torch.zeros_like(x_t)

    levels = []
    run_from_the_middle(Watched, name, 0.6, torch.full((1, 4), 1e4, dtype=torch.float64))
    given, seen = torch.tensor(levels).T
    torch.testing.assert_close(given, seen / 1e8, rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_added_noise_of_a_run_from_the_middle_leaves_the_distribution(backbone, setosas, name):
    many = setosas.repeat(8, 1)
    z = run_from_the_middle(backbone, name, 0.5, many)
    assert torch.linalg.vector_norm(z.mean(0) - many.mean(0)) < 0.15
    spread = (z - z.mean(0)).square().sum(1).mean().sqrt()
    assert spread == pytest.approx(
        float((many - many.mean(0)).square().sum(1).mean().sqrt()), rel=0.2
    )
    assert torch.equal(z, run_from_the_middle(backbone, name, 0.5, many))


@pytest.mark.parametrize("name", FAMILY)
def test_a_start_in_the_middle_is_at_its_noise_level(backbone, setosas, name):
    scheduler = make_scheduler(name, backbone.default_scheduler)
    scheduler.set_timesteps(50)
    timesteps = remaining_timesteps(scheduler, 0.6)
    assert 0.57 < (timesteps[0] + 1) / 1000 <= 0.6
    x = noised(setosas, [sample_generator(0, 0, i) for i in range(50)], scheduler, timesteps)
    alpha_bar = signal_level(scheduler, timesteps[0])
    assert alpha_bar == pytest.approx(
        float(scheduler.alphas_cumprod[round(float(timesteps[0]))]), rel=0.03
    )
    noise = torch.stack(
        [torch.randn(4, generator=sample_generator(0, 0, i), dtype=x.dtype) for i in range(50)]
    )
    expected = alpha_bar.sqrt() * setosas + (1 - alpha_bar).sqrt() * noise
    x_t = scheduler.scale_model_input(x, timesteps[0])
    torch.testing.assert_close(x_t, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_the_rest_of_a_run_shrinks_to_nothing(backbone, setosas, name):
    scheduler = make_scheduler(name, backbone.default_scheduler)
    scheduler.set_timesteps(20)
    lengths = [len(remaining_timesteps(scheduler, share)) for share in (0.2, 0.5, 0.9)]
    assert lengths == sorted(set(lengths))
    nothing = remaining_timesteps(scheduler, 0.0)
    assert len(nothing) == 0
    assert noised(setosas, None, scheduler, nothing) is setosas
    assert torch.equal(run_from_the_middle(backbone, name, 0.0, setosas), setosas)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("share", [0.07, 0.29, 0.3, 0.57, 0.7])
def test_runs_start_at_the_highest_level_that_the_share_allows(spacing, share):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(100)
    allowed = [int(t) for t in scheduler.timesteps if int(t) + 1 <= round(share * 1000)]
    assert remaining_timesteps(scheduler, share).tolist() == allowed


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["epsilon", "sample", "v_prediction"]),
    st.floats(1e-4, 0.9999),
    st.integers(0, 100),
)
def test_predictions_convert_there_and_back(prediction_type, alpha_bar, seed):
    generator = torch.Generator().manual_seed(seed)
    x0, x_t = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator)
    alpha_bar = torch.tensor(alpha_bar, dtype=torch.float64)
    prediction = model_prediction(x0, x_t, alpha_bar, prediction_type)
    again = clean_prediction(prediction, x_t, alpha_bar, prediction_type)
    torch.testing.assert_close(again, x0, atol=1e-8, rtol=1e-8)


def test_velocity_converts_where_there_is_no_signal():
    x0, x_t = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    nothing = torch.tensor(0.0, dtype=torch.float64)
    velocity = model_prediction(x0, x_t, nothing, "v_prediction")
    torch.testing.assert_close(velocity, -x0)
    torch.testing.assert_close(clean_prediction(velocity, x_t, nothing, "v_prediction"), x0)


def test_zero_terminal_snr_is_guided_with_velocities(backbone):
    class Velocity:
        latent_shape = backbone.latent_shape
        default_scheduler = diffusers.DDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        )

        @staticmethod
        def predict(x_t, t, alpha_bar, labels, guidance_scale):
            noise = backbone.predict(x_t, t, alpha_bar.clamp_min(1e-8), labels)
            x0 = clean_prediction(noise, x_t, alpha_bar.clamp_min(1e-8), "epsilon")
            return model_prediction(x0, x_t, alpha_bar, "v_prediction")

    targets = targets_at([0.5, -0.5, 1.0, 0.0])
    guided = run(Velocity, None, guidance=Guidance(0.5), targets=targets)
    free = run(Velocity, None)
    assert torch.isfinite(guided).all()
    nearer = torch.linalg.vector_norm(guided - targets.centroid, dim=1).mean()
    assert nearer < torch.linalg.vector_norm(free - targets.centroid, dim=1).mean()


def test_an_unknown_prediction_type_is_named():
    with pytest.raises(ValueError, match="prediction_type is 'flow'"):
        clean_prediction(torch.ones(1), torch.ones(1), torch.tensor(0.5), "flow")


def test_inversion_and_denoising_return_to_the_row(backbone):
    scheduler = make_scheduler("DDIMScheduler", backbone.default_scheduler)
    scheduler.set_timesteps(200)
    X, _ = load_iris(return_X_y=True)
    z = torch.from_numpy(backbone.encode(X[:20]))
    labels = torch.zeros(20, dtype=torch.int64)
    timesteps = scheduler.timesteps[scheduler.alphas_cumprod[scheduler.timesteps] > 0.1]
    calls = BatchedCalls(20)
    noisy = invert(backbone, z, labels, scheduler, calls, timesteps=timesteps)
    assert torch.linalg.vector_norm(noisy - z, dim=1).min() > 0.1
    back = denoise(backbone, noisy, labels, scheduler, calls, timesteps=timesteps)
    assert (back - z).abs().mean() < 0.03


@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_inversion_starts_from_the_schedulers_last_noise_level(set_alpha_to_one):
    """Stable Diffusion's is not zero. One step, by a model that predicts the same noise always."""
    noise = torch.tensor([[0.5, -1.0]])

    class Constant:
        @staticmethod
        def predict(x_t, *conditions):
            return noise

    scheduler = diffusers.DDIMScheduler(set_alpha_to_one=set_alpha_to_one)
    scheduler.set_timesteps(10)
    (t,) = timesteps = scheduler.timesteps[-3:-2]
    z = torch.tensor([[1.0, 2.0]])
    found = invert(
        Constant,
        z,
        torch.zeros(1, dtype=torch.int64),
        scheduler,
        BatchedCalls(1),
        timesteps=timesteps,
    )
    first = torch.tensor(1.0) if set_alpha_to_one else scheduler.alphas_cumprod[0]
    x0 = (z - (1 - first).sqrt() * noise) / first.sqrt()
    alpha_bar = scheduler.alphas_cumprod[t]
    torch.testing.assert_close(found, alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise)


def test_guided_steps_are_counted_from_the_start_of_the_interval(backbone):
    counted = []

    class Counting(Guidance):
        def correct(self, x0, x_t, alpha_bar, step, targets, rate=1.0):
            counted.append(step)
            return x0

    run(backbone, "DDIMScheduler", guidance=Counting(interval=(0.4, 0.8)), steps=10)
    assert counted == [0, 1, 2, 3]


def test_classes_have_streams_of_their_own():
    def draw(*place):
        return torch.randn(4, generator=class_generator(*place))

    assert torch.equal(draw(1, 2), draw(1, 2))
    assert not any(torch.equal(draw(1, 2), draw(*other)) for other in [(1, 0), (0, 2), (2, 1)])
    assert not torch.equal(draw(1, 2), torch.randn(4, generator=sample_generator(1, 2, 0)))


@pytest.mark.parametrize(
    "kind",
    [
        diffusers.DEISMultistepScheduler,
        diffusers.DPMSolverMultistepScheduler,
        diffusers.DPMSolverSinglestepScheduler,
        diffusers.UniPCMultistepScheduler,
    ],
)
def test_noise_levels_of_flow_matching_are_refused(kind):
    default = diffusers.DDPMScheduler()
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(use_flow_sigmas=True\) is for"):
        make_scheduler(kind(use_flow_sigmas=True), default)


def test_a_samples_stream_depends_on_its_place_alone():
    def draw(*place):
        return torch.randn(4, generator=sample_generator(*place))

    assert torch.equal(draw(1, 2, 3), draw(1, 2, 3))
    others = [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0), draw(1, 3, 2)]
    assert not any(torch.equal(draw(1, 2, 3), other) for other in others)


def test_calls_are_halved_when_memory_runs_out():
    sizes = []

    def doubled(x):
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("too much")
        return 2 * x

    calls = BatchedCalls(16)
    x = torch.arange(10.0)
    assert torch.equal(calls(doubled, x), 2 * x)
    assert sizes == [10, 8, 4, 2, 2, 2, 2, 2]
    assert calls.batch_size == 2


@pytest.mark.parametrize("message", ["MPS backend out of memory (4 GB)", "CUDA out of memory."])
def test_memory_that_only_a_message_tells_of(message):
    def doubled(x):
        if len(x) > 2:
            raise RuntimeError(message)
        return 2 * x

    assert torch.equal(BatchedCalls(8)(doubled, torch.arange(5)), 2 * torch.arange(5))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        BatchedCalls(8)(broken, torch.arange(5))


def test_a_row_that_does_not_fit_is_an_error():
    def hopeless(x):
        raise torch.OutOfMemoryError("too much")

    with pytest.raises(torch.OutOfMemoryError):
        BatchedCalls(4)(hopeless, torch.zeros(4))


@pytest.mark.parametrize(
    "name",
    [
        "NoScheduler",
        "DiTPipeline",
        "FlowMatchEulerDiscreteScheduler",
        "SchedulerMixin",
        "EDMEulerScheduler",
        "DDIMInverseScheduler",
    ],
)
def test_what_is_no_scheduler_of_the_family_is_refused(backbone, name):
    with pytest.raises(ValueError, match=f"scheduler='{name}'"):
        make_scheduler(name, backbone.default_scheduler)


def test_a_scheduler_that_reads_the_model_otherwise_is_refused():
    velocity = diffusers.DDPMScheduler(prediction_type="v_prediction")
    with pytest.raises(
        ValueError, match=r"DDIMScheduler\(prediction_type='epsilon'\) does not suit"
    ):
        make_scheduler(diffusers.DDIMScheduler(), velocity)
    assert make_scheduler("DDIMScheduler", velocity).config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", NOT_FROM_SAMPLES)
def test_a_scheduler_that_cannot_read_a_model_of_samples_is_refused(name):
    own = getattr(diffusers, name)(prediction_type="sample")
    own.set_timesteps(10)
    x = torch.zeros(1, 2)
    # The day diffusers can, this fails.
    with pytest.raises((NotImplementedError, ValueError), match="sample"):
        own.step(x, own.timesteps[0], own.scale_model_input(x, own.timesteps[0]))
    samples = diffusers.DDPMScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match=f"scheduler='{name}' can't draw .* DDIMScheduler, DDPM"):
        make_scheduler(name, samples)


def test_clipping_and_thresholding_are_off_whatever_the_configuration():
    given = diffusers.DDIMScheduler(clip_sample=True, thresholding=True)
    made = make_scheduler(given, diffusers.DDPMScheduler())
    assert made is not given
    assert not made.config.clip_sample
    assert not made.config.thresholding
    assert given.config.clip_sample
