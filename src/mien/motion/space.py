"""The space in which motion is diffused: whitened principal components of M^i - M^0.

The animator renders differences from the source's own motion, so differences are generated.
Axes: b batch, t frames, m motion dimensions, k retained components, n examples.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mien.errors import UserError
from mien.ops.precision import full_precision

_SMALLEST_SCALE = 1e-4  # relative to the largest: weaker components are noise, not to be amplified


class MotionStatistics:
    """Mean and covariance of M^i - M^0, and the mean of M^0, accumulated batch by batch.

    Kept in float64 and merged as by Chan, Golub and LeVeque (1979), so that no example stays in
    memory: m motion dimensions take 8 m^2 bytes, and as many again while a batch is added.
    """

    def __init__(self, motion_dim: int):
        self.frames = self.sources = 0
        self.mean = torch.zeros(motion_dim, dtype=torch.float64)
        self.source = torch.zeros(motion_dim, dtype=torch.float64)
        self._scatter = torch.zeros(motion_dim, motion_dim, dtype=torch.float64)

    @torch.no_grad()
    def add(self, differences: Float[Tensor, "n m"], sources: Float[Tensor, "sources m"]) -> None:
        """Add frames and sources."""
        exact, count = differences.double(), len(differences)
        if count:
            mean, whole = exact.mean(0), self.frames + count
            centred, apart = exact - mean, mean - self.mean
            self._scatter.addmm_(centred.T, centred)
            self._scatter.addr_(apart, apart, alpha=self.frames * count / whole)
            self.mean += apart * (count / whole)
            self.frames = whole
        for source in sources.double():
            self.sources += 1
            self.source += (source - self.source) / self.sources

    @property
    def covariance(self) -> Float[Tensor, "m m"]:
        """Unbiased covariance of the frames so far (divided by n - 1, like torch.cov)."""
        return self._scatter / max(1, self.frames - 1)


class MotionSpace(nn.Module):
    """An affine map between motion and `dims` coordinates of unit variance (whitened PCA), kept in
    the state dict.

    `blocks` are the sizes of the parts of a motion vector; each part is scaled to the same total
    variance before the PCA.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor
    rest: Tensor
    unit: Tensor
    fitted: Tensor

    def __init__(self, blocks: tuple[int, ...], dims: int):
        super().__init__()
        self.blocks, motion_dim = blocks, sum(blocks)
        if dims > motion_dim:
            raise ValueError(f"space of {dims} dimensions is larger than the motion's {motion_dim}")
        self.register_buffer("mean", torch.zeros(motion_dim))
        self.register_buffer("basis", torch.zeros(motion_dim, dims))
        self.register_buffer("scale", torch.ones(dims))
        self.register_buffer("rest", torch.zeros(motion_dim))
        self.register_buffer("unit", torch.ones(motion_dim))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, differences: Float[Tensor, "n m"], sources: Float[Tensor, "sources m"]) -> float:
        """As `fit_to`, from examples in memory."""
        statistics = MotionStatistics(differences.shape[1])
        statistics.add(differences, sources)
        return self.fit_to(statistics)

    @torch.no_grad()
    def fit_to(self, statistics: "MotionStatistics") -> float:
        """Fit the space to statistics of M^i - M^0 of many frames, and of the sources M^0.

        Returns the share of variance that the retained components explain.

        Raises:
            UserError: there are fewer frames than dimensions, or the motion is constant.
        """
        dims = self.scale.shape[0]
        if statistics.frames <= dims:
            raise UserError(
                f"a motion space of {dims} dimensions needs more than {dims} frames of training "
                f"motion, not {statistics.frames}; give more clips or lower space_dims"
            )
        unit = self._units(statistics.covariance.diagonal())
        mean, covariance = statistics.mean / unit, statistics.covariance / unit.outer(unit)
        variances, basis = _leading_components(covariance, dims)
        if not bool(variances[0] > 0):
            raise UserError("the training motion never changes, so no motion space can be fitted")
        # The sign of an eigenvector is arbitrary: fix it, so that every machine fits the same.
        sign = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        spread = variances.sqrt()
        self.mean.copy_(mean)
        self.basis.copy_(basis * sign)
        self.scale.copy_(spread.clamp(min=_SMALLEST_SCALE * float(spread[0])))
        self.rest.copy_(statistics.source)
        self.unit.copy_(unit)
        self.fitted.fill_(True)
        return float(variances.sum() / covariance.trace())

    def _units(self, variances: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Total standard deviation of each block relative to the first's, for each dimension."""
        totals = torch.stack([part.sum().sqrt() for part in variances.split(self.blocks)])
        totals = torch.where((totals > 0) & (totals[0] > 0), totals / totals[0], 1.0)
        return torch.cat([total.expand(n) for total, n in zip(totals, self.blocks, strict=True)])

    @full_precision
    def encode(
        self, motion: Float[Tensor, "b t m"], source_motion: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b t k"]:
        """Absolute motion to coordinates, relative to each sample's source."""
        self._require_fit()
        moved = (motion - source_motion[:, None]) / self.unit
        return (moved - self.mean) @ self.basis / self.scale

    @full_precision
    def decode(
        self, coordinates: Float[Tensor, "b t k"], source_motion: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b t m"]:
        """Coordinates back to absolute motion."""
        self._require_fit()
        moved = (coordinates * self.scale) @ self.basis.T + self.mean
        return moved * self.unit + source_motion[:, None]

    @full_precision
    def place_source(self, source_motion: Float[Tensor, "b m"]) -> Float[Tensor, "b k"]:
        """Coordinates of M^0 along the same components: the portrait's own expression and pose."""
        self._require_fit()
        return (source_motion - self.rest) / self.unit @ self.basis / self.scale

    def importance(self, exponent: float) -> Float[Tensor, " k"]:
        """Loss weights of the dimensions, mean 1: their variance to the power `exponent`.

        Whitening gives the weakest component the same weight as the mouth. An exponent of 0 keeps
        that; 1 undoes it (the loss is then the squared error of the motion itself); values between
        are a compromise.
        """
        self._require_fit()
        raw = self.scale.square() ** exponent
        return raw / raw.mean()

    def _require_fit(self) -> None:
        if not torch.compiler.is_exporting() and not bool(self.fitted):
            raise UserError(
                "this speech-to-motion net has no motion space yet: fit it on training motion "
                "(space.fit) or load a trained checkpoint"
            )


def _leading_components(
    covariance: Float[Tensor, "m m"], count: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "m k"]]:
    """The largest eigenvalues, in descending order, and their eigenvectors."""
    from scipy.linalg import eigh  # torch computes all of them, which takes longer

    m = len(covariance)
    values, vectors = eigh(covariance.numpy(), subset_by_index=(m - count, m - 1))
    largest_first = torch.from_numpy(values).flip(0), torch.from_numpy(vectors).flip(1)
    return largest_first[0].clamp(min=0), largest_first[1]
