from dode.mixture import *  # noqa: F403
from dode.mixture import MEANS, SPREAD, denoise, exact, latents, posterior_mean, rmse  # noqa: F401
