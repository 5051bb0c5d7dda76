"""What many runs say together. Long tables in, tables, verdicts and figures out; nothing here trains a model.

statistics       intervals and tests over seeds
tables           values by seed, means, differences and growth of one study, the published accuracies beside ours
studies          what several studies or two crossed factors say together
interaction      models that train on each other's outputs: beside the theory and the published losses
costs            what each run cost: reports/costs.csv, a line an arm
lesson_measures  the measures of every lesson: reports/measures.csv and null_bands.csv
verdicts         the rule that decides a claim
claims           the claims (claims.yaml), decided, also by the published table: reports/claims.md (ledger.yaml)
figures          kinds of picture: means, forest, matrix, theory; names and colours in styles.yaml
drawings         what each published figure shows of a scale's reports; interaction_drawings of K models and theory
gallery          the list of published figures, how a notebook shows them, how they are saved
hidden_states    Students side by side, and what rare texts have lost
verify           are the committed tables those of the committed rows?
"""
