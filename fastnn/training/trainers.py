"""Which trainer serves a fit."""

from __future__ import annotations

from ..network.network import Network
from ..settings.optimizers import LBFGS, FullBatch, LevenbergMarquardt
from .arguments import Request, WholeSetOptions
from .chunks import Chunks
from .fit import Trainer
from .lbfgs import LBFGSTrainer
from .levenberg_marquardt import LevenbergMarquardtTrainer
from .steps import Steps
from .whole_set import WholeSet

WHOLE_SET: dict[type[FullBatch], type[WholeSet]] = {
    LBFGS: LBFGSTrainer,
    LevenbergMarquardt: LevenbergMarquardtTrainer,
}


def trainer_for(network: Network, request: Request) -> Trainer:
    """The one that does what is asked for."""
    options, history, scored = request.options, request.history, request.scored
    if isinstance(options, WholeSetOptions):
        return WHOLE_SET[type(options.optimizer)](network, request.data.samples, options, history, scored)
    if request.chunks is not None:
        return Chunks(network, request.chunks, options, history, scored)
    return Steps(network, request.data.samples, options, history, scored)
