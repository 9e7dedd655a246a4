"""Labels by keys: kept at once, learnt from, predicted, judged; and rows that are struck out."""
